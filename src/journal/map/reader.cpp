#include "journal/map/reader.h"

#include <fmt/format.h>

#include <algorithm>

namespace hf::journal {

Reader::Reader(Storage& storage, RecordLog& log, OpenFiles& files, const Index& index,
               Sealer& sealer)
    : storage_(storage), log_(log), files_(files), index_(index), sealer_(sealer) {}

Reader::Piece& Reader::take_piece() {
  if (spare_pieces_.empty()) return *pieces_.emplace_back(std::make_unique<Piece>(*this));
  Piece& piece = *spare_pieces_.back();
  spare_pieces_.pop_back();
  piece.error.reset();
  return piece;
}

Reader::Read& Reader::take_read() {
  if (spare_reads_.empty()) return *reads_.emplace_back(std::make_unique<Read>());
  Read& read = *spare_reads_.back();
  spare_reads_.pop_back();
  return read;
}

void Reader::read(VolumeId volume, uint64_t offset, MutableByteSpan to, Completion& done,
                  const Index* index) {
  HF_ASSERT(to.size() <= ~uint64_t{0} - offset);
  Read& read = take_read();
  read = {.volume = volume,
          .index = index != nullptr ? index : &index_,
          .start = offset,
          .cursor = offset,
          .end = offset + to.size(),
          .to = to.data(),
          .done = &done};
  if (advance(read)) {
    Status status = read.error ? Status(*read.error) : Status();
    log_.complete_later(done, std::move(status));
    spare_reads_.push_back(&read);
    return;
  }
  ++in_flight_;
}

bool Reader::advance(Read& read) {
  while (read.cursor < read.end && read.pieces < kPiecesInFlight && !read.error) {
    std::optional<IndexExtent> found = read.index->find(read.volume, read.cursor, read.end);
    const uint64_t data_from = found ? found->offset : read.end;
    if (data_from > read.cursor) {
      std::ranges::fill(read.target(read.cursor, data_from - read.cursor), std::byte{0});
      read.cursor = data_from;
    }
    if (!found) break;
    // Cut to so many units.
    const uint64_t limit = (found->offset / kUnitSize + kUnitsPerPiece) * kUnitSize;
    found->length = std::min(found->length, limit - found->offset);
    read.cursor += found->length;
    start_piece(read, *found);
  }
  return read.pieces == 0 && (read.cursor == read.end || read.error);
}

void Reader::start_piece(Read& read, const IndexExtent& extent) {
  const Place& place = extent.place;
  const UnitRange units =
      UnitLayout(place.start, place.length).covering(extent.offset - place.start, extent.length);
  HF_ASSERT(units.count <= kUnitsPerPiece);
  if (open_from_memory(read, extent, units)) return;
  OpenFiles::Entry& file = files_.at(place.file);
  Piece& io = take_piece();
  io.read = &read;
  io.extent = extent;
  io.units = units;
  ++file.readers;
  ++read.pieces;
  if (place.kind == PlaceKind::kRun) {
    io.pending = 1;
    storage_.read(file.file, place.position + units.stored_at, io.sealed(), io);
  } else if (units.first == 0) {
    io.pending = 1;
    const MutableByteSpan both(io.buffer.get(), kRecordHeaderSize + units.stored_size);
    storage_.read(file.file, place.position, both, io);
  } else {
    io.pending = 2;
    const MutableByteSpan header(io.buffer.get(), kRecordHeaderSize);
    storage_.read(file.file, place.position, header, io);
    storage_.read(file.file, place.position + kRecordHeaderSize + units.stored_at, io.sealed(), io);
  }
}

bool Reader::open_from_memory(Read& read, const IndexExtent& extent, const UnitRange& units) {
  const Place& place = extent.place;
  if (place.kind != PlaceKind::kRecord) return false;
  if (place.sequence <= log_.appended().end.position.sequence.value) return false;
  const size_t size = kRecordHeaderSize + sealed_size(place.start, place.length);
  const ByteSpan record = log_.staging().find(files_.at(place.file).file, place.position, size);
  if (record.empty()) {
    HF_ASSERT(log_.failed() != nullptr);
    read.error = *log_.failed();
    return true;
  }
  Status opened = open_units(read.volume, extent, units, record.first(kRecordHeaderSize),
                             record.subspan(kRecordHeaderSize + units.stored_at, units.stored_size),
                             read.target(extent.offset, extent.length));
  if (!opened.ok()) read.error = std::move(opened).error();
  return true;
}

void Reader::on_piece(Piece& piece, Status status) {
  HF_ASSERT(piece.pending > 0);
  if (!status.ok() && !piece.error) piece.error = std::move(status).error();
  if (--piece.pending > 0) return;
  Read& read = *piece.read;
  if (!piece.error) {
    Status opened =
        open_units(read.volume, piece.extent, piece.units, piece.header(), piece.sealed(),
                   read.target(piece.extent.offset, piece.extent.length));
    if (!opened.ok()) piece.error = std::move(opened).error();
  }
  OpenFiles::Entry& file = files_.at(piece.extent.place.file);
  HF_ASSERT(file.readers > 0 && read.pieces > 0);
  --file.readers;
  --read.pieces;
  if (piece.error && !read.error) {
    const uint64_t number = piece.extent.place.file;
    const bool run = piece.extent.place.kind == PlaceKind::kRun;
    read.error = std::move(*piece.error).context(run ? base_name(number) : segment_name(number));
  }
  spare_pieces_.push_back(&piece);
  if (advance(read)) finish(read);
}

void Reader::finish(Read& read) {
  HF_ASSERT(in_flight_ > 0);
  --in_flight_;
  Status status = read.error ? Status(std::move(*read.error)) : Status();
  Completion* done = read.done;
  spare_reads_.push_back(&read);
  done->on_complete(std::move(status));
}

Status Reader::open_units(VolumeId volume, const IndexExtent& extent, const UnitRange& units,
                          ByteSpan header, ByteSpan sealed, MutableByteSpan to) {
  const Place& place = extent.place;
  const uint64_t from = extent.offset - place.start;  // in the record's plaintext
  const uint64_t end = from + extent.length;
  HF_ASSERT(end <= place.length);
  const UnitLayout layout(place.start, place.length);
  for (size_t unit = units.first; unit < units.first + units.count; ++unit) {
    const UnitPart stands = layout.unit(unit);
    const uint64_t unit_from = stands.offset - place.start;
    const ByteSpan part = sealed.first(stands.stored_length());
    sealed = sealed.subspan(part.size());
    const MutableByteSpan plain = MutableByteSpan(plain_).first(stands.length);
    TRY(open_unit(volume, place, header, unit, part, plain));
    const uint64_t copy_from = std::max(unit_from, from);
    const uint64_t copy_end = std::min(unit_from + plain.size(), end);
    HF_ASSERT(copy_from < copy_end);
    std::memcpy(to.data() + (copy_from - from), plain.data() + (copy_from - unit_from),
                static_cast<size_t>(copy_end - copy_from));
  }
  HF_ASSERT(sealed.empty());
  return {};
}

Status Reader::open_unit(VolumeId volume, const Place& place, ByteSpan header, size_t unit,
                         ByteSpan sealed, MutableByteSpan to) {
  if (place.kind == PlaceKind::kRecord) {
    // The incarnation is the line's, not what the file says: no key is derived for bytes unchecked.
    const LineageEntry* entry = incarnation_at(log_.line().lineage(), Sequence(place.sequence));
    HF_ASSERT(entry != nullptr);
    return sealer_.open_unit(header.first(kRecordAadSize), entry->body.salt,
                             Sequence(place.sequence), unit, sealed, to);
  }
  const auto key = base_keys_.find(place.file);
  HF_ASSERT(key != base_keys_.end());
  const RunAad aad = run_aad(volume, place);
  const auto nonce = unit_nonce(place.sequence, static_cast<uint32_t>(unit));
  if (key->second.open(nonce, aad, sealed, to).ok()) return {};
  return Error{.code = ErrorCode::kCorrupt,
               .cause = fmt::format("run {}, unit {}: its tag differs", place.sequence, unit)};
}

}  // namespace hf::journal
