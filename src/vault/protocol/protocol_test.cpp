#include "vault/protocol/protocol.h"

#include "vault/core/testing.h"

namespace hf::vault {
namespace {

using namespace testing;  // NOLINT

SiteIdentity some_site() {
  SiteIdentity site{.name = "site-a", .ca_certificate_pem = "PEM", .recipient_public_key_pem = "K"};
  site.site.bytes.fill(std::byte{1});
  site.signing_public_key.fill(std::byte{2});
  return site;
}

TEST(Frame, header_comes_back_and_its_layout_is_fixed) {
  std::byte raw[kHeaderSize];
  encode_header({.op = Op::kFetchKey, .reply = true, .request_id = 0x01020304, .body_length = 5},
                raw);
  EXPECT_EQ(to_hex(raw),
            "48465650"
            "0100"
            "0182"
            "04030201"
            "05000000");
  const FrameHeader header = *decode_header(raw);
  EXPECT_EQ(header.op, Op::kFetchKey);
  EXPECT_TRUE(header.reply);
  EXPECT_EQ(header.request_id, 0x01020304u);
  EXPECT_EQ(header.body_length, 5u);
}

TEST(Frame, refuses_other_protocols_versions_operations_and_lengths) {
  std::byte good[kHeaderSize];
  encode_header({.op = Op::kKeyInfo, .request_id = 1, .body_length = 16}, good);
  const auto with = [&](size_t at, uint8_t value) {
    std::byte raw[kHeaderSize];
    std::copy(std::begin(good), std::end(good), raw);
    raw[at] = static_cast<std::byte>(value);
    return decode_header(raw).error().code;
  };
  EXPECT_EQ(with(0, 'X'), ErrorCode::kCorrupt);
  EXPECT_EQ(with(4, 2), ErrorCode::kUnsupported);
  EXPECT_EQ(with(6, 0x77), ErrorCode::kUnsupported);
  EXPECT_EQ(with(14, 2), ErrorCode::kLimit);
}

TEST(Message, parts_come_back_as_they_were) {
  KeyInfo info{.vm = vm_of(3), .version = KeyVersion(2), .created = Micros(9)};
  info.certificate = Bytes(144, std::byte{5});
  info.released = true;
  const Freshness freshness{
      .position = {.incarnation = {}, .sequence = Sequence(77)}, .chain = {}, .time = Micros(8)};
  const TlsRequest tls{
      .common_name = "n", .dns_names = {"a", "b"}, .ip_addresses = {"::1"}, .key_pem = "PEM"};
  const KeeperBindings bindings{
      .generation = 3, .keepers = {{.vm = vm_of(1), .uid = 7}, {.vm = vm_of(2), .uid = 9}}};
  Writer out;
  encode(out, some_site());
  encode(out, info);
  encode(out, freshness);
  encode(out, tls);
  encode(out, bindings);
  Reader reader(out.bytes());
  EXPECT_EQ(decode_site_identity(reader), some_site());
  EXPECT_EQ(decode_key_info(reader), info);
  EXPECT_EQ(decode_freshness(reader), freshness);
  const TlsRequest again = decode_tls_request(reader);
  EXPECT_EQ(again.dns_names, tls.dns_names);
  EXPECT_EQ(again.ip_addresses, tls.ip_addresses);
  EXPECT_EQ(again.key_pem, tls.key_pem);
  EXPECT_EQ(decode_keeper_bindings(reader), bindings);
  EXPECT_TRUE(reader.finish("parts").ok());
}

TEST(Message, cut_off_anywhere_is_an_error_and_so_is_anything_after_it) {
  Writer out;
  encode(out, some_site());
  for (size_t size = 0; size < out.bytes().size(); ++size) {
    Reader reader(ByteSpan(out.bytes()).first(size));
    decode_site_identity(reader);
    EXPECT_FALSE(reader.finish("site").ok()) << size;
  }
  out.u8(0);
  Reader reader(out.bytes());
  decode_site_identity(reader);
  EXPECT_FALSE(reader.failed());
  EXPECT_EQ(reader.finish("site").error().code, ErrorCode::kCorrupt);
}

TEST(Message, lengths_over_their_bound_are_refused_before_they_are_believed) {
  Writer out;
  out.u32(0xffffffff);
  Reader reader(out.bytes());
  EXPECT_TRUE(reader.blob(kMaxBlob).empty());
  EXPECT_TRUE(reader.failed());
}

TEST(Message, a_list_of_keepers_is_bounded_before_it_is_read) {
  Writer out;
  out.u64(1);
  out.u32(kMaxKeepers + 1);
  for (size_t i = 0; i <= kMaxKeepers; ++i) out.raw(Bytes(20));
  Reader reader(out.bytes());
  EXPECT_TRUE(decode_keeper_bindings(reader).keepers.empty());
  EXPECT_TRUE(reader.failed());
}

TEST(Operation, belongs_to_one_listener) {
  EXPECT_EQ(listener_of(Op::kRelease), Listener::kAdmin);
  EXPECT_EQ(listener_of(Op::kAttestationKeys), Listener::kAdmin);
  EXPECT_EQ(listener_of(Op::kFetchKey), Listener::kKeys);
  EXPECT_EQ(listener_of(Op::kSessionCheck), Listener::kKeys);
  EXPECT_EQ(listener_of(Op::kBindKeepers), Listener::kLauncher);
}

TEST(Reply, carries_a_result_or_an_error_with_its_three_parts) {
  const crypto::Secret good = encode_reply(Op::kKeyInfo, 7, as_bytes("result"));
  const ByteSpan result = *decode_reply(good.span().subspan(kHeaderSize));
  EXPECT_EQ(as_text(result), "result");
  const crypto::Secret bad = encode_error_reply(
      Op::kKeyInfo, 7,
      {.code = ErrorCode::kConflict, .cause = "c", .effect = "e", .mend = std::string(9000, 'm')});
  const Error error = decode_reply(bad.span().subspan(kHeaderSize)).error();
  EXPECT_EQ(error.code, ErrorCode::kConflict);
  EXPECT_EQ(error.cause, "c");
  EXPECT_EQ(error.effect, "e");
  EXPECT_EQ(error.mend.size(), kMaxErrorText);
  std::byte unknown[2] = {std::byte{0xff}, std::byte{0x7f}};
  EXPECT_EQ(decode_reply(unknown).error().code, ErrorCode::kCorrupt);
  EXPECT_EQ(decode_reply({}).error().code, ErrorCode::kCorrupt);
}

TEST(Reply, carries_a_key_into_locked_memory) {
  FetchedKey key{.key = crypto::Secret(32), .version = KeyVersion(3)};
  key.key.mutable_span()[31] = std::byte{9};
  key.key_id.bytes.fill(std::byte{4});
  const crypto::Secret frame = encode_fetched_key(Op::kFetchKey, 1, key);
  const ByteSpan result = *decode_reply(frame.span().subspan(kHeaderSize));
  const FetchedKey again = *decode_fetched_key(result);
  EXPECT_TRUE(crypto::constant_time_equal(again.key.span(), key.key.span()));
  EXPECT_EQ(again.version, key.version);
  EXPECT_EQ(again.key_id, key.key_id);
  EXPECT_FALSE(decode_fetched_key(result.first(51)).ok());
}

}  // namespace
}  // namespace hf::vault
