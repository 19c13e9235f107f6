// Sealer: plaintext into sealed records and back, under one VM's journal keys.
//
// Nonce = sequence (64 bit) ‖ unit (32 bit), so a number that entered seal_record() is spent: the
// record is appended or the journal fails. Keys of older incarnations are derived when first read.
#pragma once

#include <vector>

#include "journal/format/format.h"
#include "journal/seal/keys.h"

namespace hf::journal {

// The nonce of a record's or run's unit, with either's number.
crypto::Nonce unit_nonce(uint64_t number, uint32_t unit);
// Units of `plaintext`, which stands at `offset` of a volume, under nonces of that number. `to` has
// sealed_size() bytes.
void seal_units(crypto::Aead& aead, uint64_t number, ByteSpan aad, uint64_t offset,
                ByteSpan plaintext, MutableByteSpan to);

class Sealer {
 public:
  explicit Sealer(JournalKeys keys) : keys_(std::move(keys)) {}

  // Fills `to` (header.stored_size() bytes) with the whole record; sets payload_length and digest
  // in `header`, whose other fields are given. The kind is a sealed one.
  void seal_record(RecordHeader& header, ByteSpan plaintext, MutableByteSpan to);
  void seal_incarnation(RecordHeader& header, const IncarnationBody& body, MutableByteSpan to);
  void sign_close(RecordHeader& header, const CloseBody& body, MutableByteSpan to);

  // Opens unit `unit` of the record with these first 112 header bytes. kWrongKey becomes kCorrupt.
  Status open_unit(ByteSpan aad, const IncarnationId& incarnation, Sequence sequence, size_t unit,
                   ByteSpan sealed, MutableByteSpan to);
  // Every tag of a record; for what no signed close covers yet.
  Status check_record(const RecordHeader& header, ByteSpan raw_header, ByteSpan payload);

  const JournalKeys& keys() const { return keys_; }

 private:
  struct Cached {
    IncarnationId incarnation;
    crypto::Aead aead;
  };
  crypto::Aead& aead_of(const IncarnationId& incarnation);

  JournalKeys keys_;
  std::vector<Cached> cache_;  // newest use last
  std::array<std::byte, kUnitSize> scratch_;
};

}  // namespace hf::journal
