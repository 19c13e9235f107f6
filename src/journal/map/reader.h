// Reader: guest reads. Index, then whole sealed units into a buffer of ours, each tag checked, and
// only then the bytes asked for into the caller's.
//
// A read is cut into pieces (one per extent, at most 32 units); a bounded number of pieces of a
// read is in flight at a time. Bytes that are still staged are opened from memory, so what was
// accepted reads back at once.
#pragma once

#include <map>
#include <memory>

#include "journal/log/record_log.h"
#include "journal/map/base_format.h"
#include "journal/map/files.h"
#include "journal/seal/sealer.h"
#include "journal/units/units.h"

namespace hf::journal {

class Reader {
 public:
  Reader(Storage& storage, RecordLog& log, OpenFiles& files, const Index& index, Sealer& sealer);
  Reader(const Reader&) = delete;
  Reader& operator=(const Reader&) = delete;

  // `done` is called from a storage completion or, if all was at hand, from the next tick.
  // `index`: look there instead of in the journal's own; it must stay until completion.
  void read(VolumeId volume, uint64_t offset, MutableByteSpan to, Completion& done,
            const Index* index = nullptr);

  void add_base_key(uint64_t number, crypto::Aead aead) {
    base_keys_.insert_or_assign(number, std::move(aead));
  }
  void remove_base_key(uint64_t number) { base_keys_.erase(number); }
  size_t in_flight() const { return in_flight_; }

 private:
  static constexpr size_t kUnitsPerPiece = 32;
  static constexpr size_t kPiecesInFlight = 8;  // of one read
  static constexpr size_t kPieceBuffer =
      kRecordHeaderSize + kUnitsPerPiece * (kUnitSize + crypto::kTagSize);

  struct Read {
    VolumeId volume;
    const Index* index = nullptr;
    uint64_t start = 0;
    uint64_t cursor = 0;  // next byte not yet given to a piece
    uint64_t end = 0;
    std::byte* to = nullptr;
    Completion* done = nullptr;
    size_t pieces = 0;  // in flight
    std::optional<Error> error;
    MutableByteSpan target(uint64_t offset, uint64_t length) const {
      HF_ASSERT(offset >= start && offset + length <= end);
      return {to + (offset - start), static_cast<size_t>(length)};
    }
  };
  struct Piece final : Completion {
    explicit Piece(Reader& owner) : reader(owner) {}
    void on_complete(Status status) override { reader.on_piece(*this, std::move(status)); }
    Reader& reader;
    Read* read = nullptr;
    IndexExtent extent;
    UnitRange units;
    size_t pending = 0;  // storage reads
    std::optional<Error> error;
    std::unique_ptr<std::byte[]> buffer = std::make_unique_for_overwrite<std::byte[]>(kPieceBuffer);
    ByteSpan header() const { return {buffer.get(), kRecordHeaderSize}; }
    MutableByteSpan sealed() const { return {buffer.get() + kRecordHeaderSize, units.stored_size}; }
  };

  // True when the read is finished: everything was at hand.
  bool advance(Read& read);
  void start_piece(Read& read, const IndexExtent& extent);
  bool open_from_memory(Read& read, const IndexExtent& extent, const UnitRange& units);
  void on_piece(Piece& piece, Status status);
  Status open_units(VolumeId volume, const IndexExtent& extent, const UnitRange& units,
                    ByteSpan header, ByteSpan sealed, MutableByteSpan to);
  Status open_unit(VolumeId volume, const Place& place, ByteSpan header, size_t unit,
                   ByteSpan sealed, MutableByteSpan to);
  Piece& take_piece();
  Read& take_read();
  void finish(Read& read);

  Storage& storage_;
  RecordLog& log_;
  OpenFiles& files_;
  const Index& index_;
  Sealer& sealer_;
  std::map<uint64_t, crypto::Aead> base_keys_;
  // All there are, and those not in use. As many as were ever in flight at once.
  std::vector<std::unique_ptr<Piece>> pieces_;
  std::vector<std::unique_ptr<Read>> reads_;
  std::vector<Piece*> spare_pieces_;
  std::vector<Read*> spare_reads_;
  size_t in_flight_ = 0;
  std::array<std::byte, kUnitSize> plain_;
};

}  // namespace hf::journal
