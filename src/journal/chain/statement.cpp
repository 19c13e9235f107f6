#include "journal/chain/statement.h"

#include <algorithm>

#include "journal/format/wire.h"

namespace hf::journal {

namespace {
static_assert(kMapStatementSize + crypto::kSignatureSize <= kTableAttachmentMax);

//   0 VM (16), key version (4), zero (4), a (8), b (8) · 40 begin, 144 end: incarnation (32),
//   sequence (8), chain (32), close's digest (32) each
Bytes encode(const MapStatement& statement) {
  Bytes bytes(kMapStatementSize);
  FieldWriter out(bytes);
  out.bytes(statement.vm.span());
  out.number(statement.key_version.value);
  out.zeroes(4);
  out.number(statement.run.a);
  out.number(statement.run.b);
  for (const LineClose& at : {statement.begin, statement.end}) {
    out.bytes(at.end.position.incarnation.span());
    out.number(at.end.position.sequence.value);
    out.bytes(at.end.chain.span());
    out.bytes(at.close.span());
  }
  HF_ASSERT(out.at() == kMapStatementSize);
  return bytes;
}

LineClose get_close(FieldReader& in) {
  LineClose at;
  at.end.position.incarnation = in.id<IncarnationId>();
  at.end.position.sequence = in.counted<Sequence>();
  at.end.chain = in.id<Digest>();
  at.close = in.id<Digest>();
  return at;
}

// Label ‖ the footer's first 96 bytes, which name root, entries and length ‖ statement.
Bytes message(const TableFooter& footer, ByteSpan statement) {
  const ByteSpan label = as_bytes(kMapLabel);
  const Bytes whole = encode_table_footer(footer);
  Bytes bytes(label.begin(), label.end());
  bytes.insert(bytes.end(), whole.begin(), whole.begin() + kTableAttachmentAt);
  bytes.insert(bytes.end(), statement.begin(), statement.end());
  return bytes;
}
}  // namespace

void sign_map(const MapStatement& statement, const crypto::SigningKey& key, TableFooter& footer) {
  HF_ASSERT(footer.kind == TableKind::kMap && statement.run.a < statement.run.b);
  const Bytes said = encode(statement);
  footer.attachment.assign(said.size() + crypto::kSignatureSize, std::byte{0});
  const crypto::Signature signature = key.sign(message(footer, said));
  std::ranges::copy(said, footer.attachment.begin());
  std::ranges::copy(signature, footer.attachment.begin() + kMapStatementSize);
}

Result<MapStatement> check_map(const TableFooter& footer, const crypto::PublicKey& key) {
  if (footer.kind != TableKind::kMap ||
      footer.attachment.size() != kMapStatementSize + crypto::kSignatureSize) {
    return corrupt("a map says nothing of what it covers");
  }
  const ByteSpan said = ByteSpan(footer.attachment).first(kMapStatementSize);
  crypto::Signature signature;
  std::ranges::copy(ByteSpan(footer.attachment).last(crypto::kSignatureSize), signature.begin());
  if (!crypto::verify(key, message(footer, said), signature)) {
    return corrupt("a map: its signature differs");
  }
  FieldReader in(said);
  MapStatement statement;
  statement.vm = in.id<VmId>();
  statement.key_version = KeyVersion(in.number<uint32_t>());
  const bool zero = in.zeroes(4);
  statement.run.a = in.counted();
  statement.run.b = in.counted();
  statement.begin = get_close(in);
  statement.end = get_close(in);
  const bool at_start = statement.run.a == 0;
  if (!zero || !in.in_range() || statement.run.a >= statement.run.b ||
      at_start != (statement.begin == LineClose{}) ||
      statement.begin.end.position.sequence >= statement.end.end.position.sequence) {
    return corrupt("a map: what it says it covers is nothing");
  }
  return statement;
}

}  // namespace hf::journal
