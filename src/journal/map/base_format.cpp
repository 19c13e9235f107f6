#include "journal/map/base_format.h"

#include "base/crc32c.h"
#include "journal/format/wire.h"

namespace hf::journal {

namespace {
constexpr uint32_t kBaseFooterMagic = 0x45464648;  // "HFFE"
constexpr uint16_t kBaseVersion = 2;
constexpr uint16_t kFooterVersion = 2;
constexpr size_t kHeaderFields = 60;

Bytes footer_message(ByteSpan body) {
  Bytes message(kBaseFooterLabel.size() + body.size());
  FieldWriter out(message);
  out.bytes(as_bytes(kBaseFooterLabel));
  out.bytes(body);
  return message;
}

void put_header(FieldWriter& out, const BaseHeader& header) {
  out.number(header.key_version.value);
  out.bytes(header.vm.span());
  out.bytes(header.salt);
}

BaseHeader get_header(FieldReader& in) {
  BaseHeader header;
  header.key_version = KeyVersion(in.number<uint32_t>());
  header.vm = in.id<VmId>();
  std::ranges::copy(in.bytes(header.salt.size()), header.salt.begin());
  return header;
}
}  // namespace

void encode_base_header(const BaseHeader& header, MutableByteSpan to) {
  HF_ASSERT(to.size() == kBaseHeaderSize);
  FieldWriter out(to);
  out.number(kBaseMagic);
  out.number(kBaseVersion);
  out.zeroes(2);
  put_header(out, header);
  HF_ASSERT(out.at() == kHeaderFields);
  out.number(crc32c(to.first(kHeaderFields)));
  out.zeroes_to(kBaseHeaderSize);
}

Result<BaseHeader> decode_base_header(ByteSpan from) {
  if (from.size() < kBaseHeaderSize) return corrupt("base header is cut short");
  FieldReader in(from.first(kBaseHeaderSize));
  if (in.number<uint32_t>() != kBaseMagic || in.number<uint16_t>() != kBaseVersion ||
      !in.zeroes(2)) {
    return corrupt("not a base file of this version");
  }
  const BaseHeader header = get_header(in);
  const bool crc_fits = in.number<uint32_t>() == crc32c(from.first(kHeaderFields));
  if (!crc_fits || !in.zeroes_to(kBaseHeaderSize)) return corrupt("base header differs");
  return header;
}

void encode_base_footer(const BaseFooter& footer, const crypto::SigningKey& key,
                        std::span<std::byte, kBaseFooterSize> to) {
  FieldWriter out(to);
  out.number(kBaseFooterMagic);
  out.number(kFooterVersion);
  out.zeroes(2);
  put_header(out, footer.header);
  out.zeroes(4);
  out.number(footer.table_offset);
  out.number(footer.table_entries);
  out.bytes(footer.table_digest.span());
  out.bytes(footer.through.end.position.incarnation.span());
  out.number(footer.through.end.position.sequence.value);
  out.bytes(footer.through.end.chain.span());
  out.number(footer.through.time.value);
  out.bytes(footer.through.close.span());
  out.bytes(footer.since.position.incarnation.span());
  out.number(footer.since.position.sequence.value);
  out.bytes(footer.since.chain.span());
  out.bytes(footer.lineage_digest.span());
  out.bytes(footer.data_digest.span());
  out.zeroes_to(kBaseFooterBodySize);
  out.bytes(key.sign(footer_message(to.first(kBaseFooterBodySize))));
  HF_ASSERT(out.at() == kBaseFooterSize);
}

Result<BaseFooter> decode_base_footer(ByteSpan from, const crypto::PublicKey& key) {
  if (from.size() < kBaseFooterSize) return corrupt("base footer is cut short");
  FieldReader in(from.first(kBaseFooterSize));
  if (in.number<uint32_t>() != kBaseFooterMagic || in.number<uint16_t>() != kFooterVersion) {
    return corrupt("base footer differs");
  }
  in.bytes(2);
  BaseFooter footer;
  footer.header = get_header(in);
  in.bytes(4);
  footer.table_offset = in.counted();
  footer.table_entries = in.counted();
  footer.table_digest = in.id<Digest>();
  footer.through.end.position.incarnation = in.id<IncarnationId>();
  footer.through.end.position.sequence = in.counted<Sequence>();
  footer.through.end.chain = in.id<Digest>();
  footer.through.time = in.counted<Micros>();
  footer.through.close = in.id<Digest>();
  footer.since.position.incarnation = in.id<IncarnationId>();
  footer.since.position.sequence = in.counted<Sequence>();
  footer.since.chain = in.id<Digest>();
  footer.lineage_digest = in.id<Digest>();
  footer.data_digest = in.id<Digest>();
  in.bytes(kBaseFooterBodySize - in.at());
  crypto::Signature signature;
  std::ranges::copy(in.bytes(signature.size()), signature.begin());
  if (!crypto::verify(key, footer_message(from.first(kBaseFooterBodySize)), signature)) {
    return corrupt("base footer's signature differs");
  }
  // Who signs may still lie.
  if (!in.in_range()) return corrupt(std::string("base footer: ") + kOutOfRange);
  return footer;
}

RunAad run_aad(VolumeId volume, const Place& place) {
  HF_ASSERT(place.kind == PlaceKind::kRun && place.position >= kBaseHeaderSize);
  RunAad aad;
  encode_extent({.volume = volume,
                 .kind = RecordKind::kWrite,
                 .offset = place.start,
                 .length = place.length,
                 .sequence = Sequence(place.sequence),
                 .position = place.position - kBaseHeaderSize},
                aad);
  return aad;
}

}  // namespace hf::journal
