#include "journal/seal/sealer.h"

#include <fmt/format.h>

#include <algorithm>

#include "journal/format/wire.h"
#include "journal/units/units.h"

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
  header.payload_digest =
      payload_digest(header, to.subspan(kRecordHeaderSize, header.payload_length));
  encode_header(header, to.first<kRecordHeaderSize>());
}
}  // namespace

crypto::Nonce unit_nonce(uint64_t number, uint32_t unit) {
  crypto::Nonce nonce;
  store_le(nonce.data(), number);
  store_le(nonce.data() + 8, unit);
  return nonce;
}

void seal_units(crypto::Aead& aead, uint64_t number, ByteSpan aad, uint64_t offset,
                ByteSpan plaintext, MutableByteSpan to) {
  HF_ASSERT(to.size() == sealed_size(offset, plaintext.size()));
  if (plaintext.empty()) return aead.seal(unit_nonce(number, 0), aad, {}, to);
  const UnitLayout layout(offset, plaintext.size());
  for (size_t i = 0; i < layout.count(); ++i) {
    const UnitPart unit = layout.unit(i);
    aead.seal(unit_nonce(number, static_cast<uint32_t>(i)), aad,
              plaintext.subspan(static_cast<size_t>(unit.offset - offset), unit.length),
              to.subspan(unit.stored_at, unit.stored_length()));
  }
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
  HF_ASSERT(header.kind != RecordKind::kWrite || header.length == plaintext.size());
  header.payload_length = static_cast<uint32_t>(sealed_size(header.offset, plaintext.size()));
  HF_ASSERT(to.size() == header.stored_size());
  encode_aad(header, to.first<kRecordHeaderSize>());
  seal_units(aead_of(header.incarnation), header.sequence.value, to.first<kRecordAadSize>(),
             header.offset, plaintext, to.subspan(kRecordHeaderSize, header.payload_length));
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
  if (payload.size() == crypto::kTagSize) {
    return open_unit(aad, header.incarnation, header.sequence, 0, payload, {});
  }
  const UnitLayout layout(header.offset, header.length);
  for (size_t i = 0; i < layout.count(); ++i) {
    const UnitPart unit = layout.unit(i);
    TRY(open_unit(aad, header.incarnation, header.sequence, i,
                  payload.subspan(unit.stored_at, unit.stored_length()),
                  MutableByteSpan(scratch_).first(unit.length)));
  }
  crypto::wipe(scratch_);
  return {};
}

}  // namespace hf::journal
