#include "journal/seal/sealer.h"

#include <fmt/format.h>

#include <algorithm>

#include "journal/format/wire.h"

namespace hf::journal {

namespace {
constexpr size_t kCachedKeysMax = 64;

Error bad_tag(Sequence sequence, size_t unit) {
  return corrupt(fmt::format("record {}, unit {}: its tag differs", sequence.value, unit));
}

// A record's padding, and digest and header once the payload stands.
void finish(RecordHeader& header, MutableByteSpan to) {
  const size_t end = kRecordHeaderSize + header.payload_length;
  std::ranges::fill(to.subspan(end), std::byte{0});
  header.payload_digest = crypto::sha256(to.subspan(kRecordHeaderSize, header.payload_length));
  encode_header(header, to.first<kRecordHeaderSize>());
}
}  // namespace

crypto::Nonce unit_nonce(uint64_t number, uint32_t unit) {
  crypto::Nonce nonce;
  store_le(nonce.data(), number);
  store_le(nonce.data() + 8, unit);
  return nonce;
}

UnitRange units_covering(size_t plaintext_length, size_t from, size_t length) {
  HF_ASSERT(length > 0 && from + length <= plaintext_length);
  UnitRange range;
  range.first = from / kUnitSize;
  range.count = (from + length - 1) / kUnitSize - range.first + 1;
  range.stored_offset = range.first * kSealedUnitSize;
  const size_t plain_end = std::min((range.first + range.count) * kUnitSize, plaintext_length);
  range.stored_size = plain_end - range.first * kUnitSize + range.count * crypto::kTagSize;
  return range;
}

crypto::Aead& Sealer::aead_of(const IncarnationId& incarnation) {
  for (auto cached = cache_.rbegin(); cached != cache_.rend(); ++cached) {
    if (cached->incarnation == incarnation) return cached->aead;
  }
  if (cache_.size() == kCachedKeysMax) cache_.erase(cache_.begin());
  cache_.push_back({.incarnation = incarnation, .aead = keys_.record_aead(incarnation)});
  return cache_.back().aead;
}

void Sealer::seal_record(RecordHeader& header, ByteSpan plaintext, MutableByteSpan to) {
  HF_ASSERT(plaintext.size() <= kRecordDataMax);
  header.payload_length = static_cast<uint32_t>(sealed_size(plaintext.size()));
  HF_ASSERT(to.size() == header.stored_size());
  encode_aad(header, to.first<kRecordHeaderSize>());
  const ByteSpan aad = to.first<kRecordAadSize>();
  crypto::Aead& aead = aead_of(header.incarnation);
  MutableByteSpan out = to.subspan(kRecordHeaderSize);
  const auto units = unit_count(plaintext.size());
  for (uint32_t unit = 0; unit < units; ++unit) {
    const ByteSpan part = plaintext.first(std::min(plaintext.size(), kUnitSize));
    aead.seal(unit_nonce(header.sequence.value, unit), aad, part,
              out.first(part.size() + crypto::kTagSize));
    plaintext = plaintext.subspan(part.size());
    out = out.subspan(part.size() + crypto::kTagSize);
  }
  HF_ASSERT(plaintext.empty());
  finish(header, to);
}

void Sealer::seal_incarnation(RecordHeader& header, const IncarnationBody& body,
                              MutableByteSpan to) {
  HF_ASSERT(header.kind == RecordKind::kIncarnation && header.incarnation == body.salt);
  header.payload_length = kIncarnationPayloadSize;
  HF_ASSERT(to.size() == header.stored_size());
  encode_aad(header, to.first<kRecordHeaderSize>());
  encode_incarnation(body, to.subspan<kRecordHeaderSize, kIncarnationBodySize>());
  std::array<std::byte, kRecordAadSize + kIncarnationBodySize> aad;
  FieldWriter both(aad);
  both.bytes(to.first(kRecordAadSize));
  both.bytes(to.subspan(kRecordHeaderSize, kIncarnationBodySize));
  aead_of(header.incarnation)
      .seal(unit_nonce(header.sequence.value, 0), aad, {},
            to.subspan(kRecordHeaderSize + kIncarnationBodySize, crypto::kTagSize));
  finish(header, to);
}

void Sealer::sign_close(RecordHeader& header, const CloseBody& body, MutableByteSpan to) {
  HF_ASSERT(header.kind == RecordKind::kClose);
  header.payload_length = kClosePayloadSize;
  HF_ASSERT(to.size() == header.stored_size());
  encode_aad(header, to.first<kRecordHeaderSize>());
  encode_close(body, to.subspan<kRecordHeaderSize, kCloseBodySize>());
  const crypto::Signature signature = keys_.signing().sign(
      close_message(to.first(kRecordAadSize), to.subspan(kRecordHeaderSize, kCloseBodySize)));
  std::ranges::copy(signature, to.subspan(kRecordHeaderSize + kCloseBodySize).begin());
  finish(header, to);
}

Status Sealer::open_unit(ByteSpan aad, const IncarnationId& incarnation, Sequence sequence,
                         size_t unit, ByteSpan sealed, MutableByteSpan to) {
  HF_ASSERT(aad.size() == kRecordAadSize);
  HF_ASSERT(sealed.size() == to.size() + crypto::kTagSize);
  const auto nonce = unit_nonce(sequence.value, static_cast<uint32_t>(unit));
  if (!aead_of(incarnation).open(nonce, aad, sealed, to).ok()) return bad_tag(sequence, unit);
  return {};
}

Status Sealer::check_record(const RecordHeader& header, ByteSpan raw_header, ByteSpan payload) {
  const ByteSpan aad = raw_header.first(kRecordAadSize);
  if (header.kind == RecordKind::kClose) return {};  // signed instead
  if (header.kind == RecordKind::kIncarnation) {
    std::array<std::byte, kRecordAadSize + kIncarnationBodySize> both;
    FieldWriter out(both);
    out.bytes(aad);
    out.bytes(payload.first(kIncarnationBodySize));
    const auto nonce = unit_nonce(header.sequence.value, 0);
    if (!aead_of(header.incarnation)
             .open(nonce, both, payload.subspan(kIncarnationBodySize), {})
             .ok()) {
      return bad_tag(header.sequence, 0);
    }
    return {};
  }
  for (size_t unit = 0; !payload.empty(); ++unit) {
    const ByteSpan sealed = payload.first(std::min(payload.size(), kSealedUnitSize));
    TRY(open_unit(aad, header.incarnation, header.sequence, unit, sealed,
                  MutableByteSpan(scratch_).first(sealed.size() - crypto::kTagSize)));
    payload = payload.subspan(sealed.size());
  }
  crypto::wipe(scratch_);
  return {};
}

}  // namespace hf::journal
