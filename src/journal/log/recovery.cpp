#include "journal/log/recovery.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "journal/format/wire.h"

namespace hf::journal {

Status check_close_signature(const ScannedRecord& record, const crypto::PublicKey& key) {
  HF_ASSERT(record.header.kind == RecordKind::kClose);
  HF_ASSERT(record.payload.size() == kClosePayloadSize);
  crypto::Signature signature;
  std::ranges::copy(record.payload.last(crypto::kSignatureSize), signature.begin());
  const Bytes message =
      close_message(record.raw_header.first(kRecordAadSize), record.payload.first(kCloseBodySize));
  if (!crypto::verify(key, message, signature)) return corrupt("close: signature differs");
  return {};
}

Status check_close(const ScannedRecord& record, const SegmentSummary& summary, const Line& line,
                   const Digest& previous_close, const crypto::PublicKey& key) {
  const CloseBody body = TRY(decode_close(record.payload));
  if (summary.records() == 0) return corrupt("close: it covers no record");
  if (body.epoch != line.open_epoch()) return corrupt("close: epoch differs");
  const CloseBody expected = summary.close_body(body.epoch, line.end(), previous_close);
  if (body.previous_close != expected.previous_close)
    return corrupt("close: previous close differs");
  if (body.merkle_root != expected.merkle_root) return corrupt("close: Merkle root differs");
  if (body.table_digest != expected.table_digest) return corrupt("close: extent table differs");
  if (body != expected) return corrupt("close: record count or chain differs");
  return check_close_signature(record, key);
}

namespace {

class Recovery {
 public:
  Recovery(Storage& storage, const crypto::PublicKey& key, const LogOptions& options,
           RecoveryVisitor* visitor)
      : storage_(storage), key_(key), options_(options), visitor_(visitor) {}

  Result<Recovered> run(const VmId& vm) {
    Status status = walk(vm);
    if (status.ok()) return std::move(out_);
    for (FileId file : opened_) {
      // The first error is the one to tell.
      static_cast<void>(storage_.close(file).ok());
    }
    return std::move(status).error();
  }

 private:
  Status walk(const VmId& vm);
  Result<FileId> open_listed(const std::string& name);
  Status take_mapped(const SegmentEntry& entry);
  Status take_closed(const SegmentEntry& entry, bool read_records);
  Status check_table(Segment& segment, const CloseBody& body);
  Status read_closed_records(const Segment& segment);
  Status take_unlisted(const SegmentEntry& entry);
  Status take_prepared(Segment segment, uint64_t size);
  Status scan_unlisted(Segment segment, uint64_t size);
  Result<bool> counts(const ScannedRecord& record);
  Status take_close(Segment segment, const ScannedRecord& record, uint64_t size);
  void plan_repair(FileId file, uint64_t offset, Bytes expected, uint64_t size);
  size_t first_read_in_full() const;

  Storage& storage_;
  const crypto::PublicKey& key_;
  const LogOptions& options_;
  RecoveryVisitor* visitor_;
  Recovered out_;
  std::vector<FileId> opened_;
};

Status Recovery::walk(const VmId& vm) {
  out_.manifest = TRY(load_manifest(storage_));
  const Manifest& manifest = out_.manifest;
  if (manifest.vm != vm) {
    return Error{.code = ErrorCode::kConflict, .cause = "the journal is another VM's"};
  }
  if (manifest.public_key != key_) {
    return Error{.code = ErrorCode::kWrongKey,
                 .cause = "the journal was written under another key than this VM's"};
  }
  TRY(check_nothing_missed(storage_, manifest));
  out_.line = Line(vm, manifest.lineage, {});
  if (manifest.horizon.end.position.sequence.value > 0) {
    out_.line.jump(manifest.horizon.end, manifest.horizon.time);
  }
  out_.previous_close = manifest.horizon.close;
  for (const BaseEntry& base : manifest.bases) {
    const FileId file = TRY(open_listed(base_name(base.number)));
    out_.bases.push_back(file);
    if (visitor_ != nullptr) TRY_CONTEXT(visitor_->on_base(base, file), base_name(base.number));
  }
  std::optional<size_t> mapped;
  if (visitor_ != nullptr) mapped = TRY(visitor_->on_manifest(manifest));
  const size_t in_full = mapped ? *mapped : first_read_in_full();
  for (size_t i = 0; i < manifest.segments.size(); ++i) {
    const SegmentEntry& entry = manifest.segments[i];
    Status taken = i < mapped.value_or(0) ? take_mapped(entry)
                   : entry.closed         ? take_closed(entry, i >= in_full)
                                          : take_unlisted(entry);
    if (!taken.ok()) return std::move(taken).error().context(segment_name(entry.number));
  }
  if (!manifest.lineage.empty() && manifest.lineage.back().first > out_.line.last()) {
    return corrupt("MANIFEST: the lineage reaches past the last record");
  }
  return {};
}

// Segments from this index on are read record by record.
size_t Recovery::first_read_in_full() const {
  uint64_t left = options_.verify_bytes_max;
  size_t index = out_.manifest.segments.size();
  while (index > 0) {
    const auto& closed = out_.manifest.segments[index - 1].closed;
    const uint64_t cost = closed ? closed->close_offset : 0;
    if (cost > left) break;
    left -= cost;
    --index;
  }
  return index;
}

Result<FileId> Recovery::open_listed(const std::string& name) {
  Result<FileId> file = storage_.open(name, OpenMode::kReadWrite);
  if (!file.ok()) {
    if (file.error().code == ErrorCode::kNotFound) return corrupt(name + ": the file is missing");
    return std::move(file).error().context(name);
  }
  opened_.push_back(*file);
  return *file;
}

// The maps are signed and say where the line stood at its end (Engine::load() compares them).
Status Recovery::take_mapped(const SegmentEntry& entry) {
  if (!entry.closed) return corrupt("a map covers it, and it has no end");
  Segment segment{.number = entry.number,
                  .first = entry.closed->first,
                  .closed = entry.closed,
                  .collected = entry.collected,
                  .synced = true};
  const ClosedSegment& closed = *segment.closed;
  if (closed.first != out_.line.last().next() || closed.last <= closed.first ||
      closed.time < out_.line.time()) {
    return corrupt("it does not follow the segment before it");
  }
  if (!entry.collected) {
    segment.file = TRY(open_listed(segment.name()));
    const uint64_t size = TRY(storage_.size(segment.file));
    if (closed.close_offset > size || closed.table_entries > size / kExtentEntrySize ||
        segment.closed_size() > size) {
      return corrupt("the file is cut short");
    }
  }
  out_.line.jump({.position = {.incarnation = closed.incarnation, .sequence = closed.last},
                  .chain = closed.chain},
                 closed.time);
  out_.previous_close = closed.close_digest;
  out_.closed.push_back(std::move(segment));
  return {};
}

Status Recovery::take_closed(const SegmentEntry& entry, bool read_records) {
  if (entry.collected) {
    return Error{.code = ErrorCode::kUnsupported,
                 .cause = "it was collected, and this build does not read what is left of it"};
  }
  Segment segment{.number = entry.number, .closed = entry.closed, .synced = true};
  const ClosedSegment& closed = *segment.closed;
  segment.first = closed.first;
  segment.file = TRY(open_listed(segment.name()));
  const uint64_t size = TRY(storage_.size(segment.file));
  if (closed.close_offset > size || closed.table_entries > size / kExtentEntrySize ||
      segment.closed_size() > size) {
    return corrupt("the file is cut short");
  }
  std::array<std::byte, kSegmentHeaderSize> head;
  TRY(storage_.read_now(segment.file, 0, head));
  const SegmentHeader expected{.number = entry.number,
                               .vm = out_.line.vm(),
                               .first_sequence = out_.line.last().next(),
                               .prev_chain = out_.line.end().chain,
                               .previous_close = out_.previous_close};
  if (TRY(decode_segment_header(head)) != expected) return corrupt("segment header differs");

  std::array<std::byte, Segment::kCloseStoredSize> raw;
  TRY(storage_.read_now(segment.file, closed.close_offset, raw));
  const ScannedRecord close = TRY_CONTEXT(parse_record(raw), "close");
  if (close.header.kind != RecordKind::kClose || close.header.sequence != closed.last ||
      close.header.incarnation != closed.incarnation || close.header.time != closed.time ||
      close_digest(close.header_bytes(), close.payload) != closed.close_digest) {
    return corrupt("close: differs from the one in MANIFEST");
  }
  TRY(check_close_signature(close, key_));
  const CloseBody body = TRY(decode_close(close.payload));
  if (body.previous_close != out_.previous_close) return corrupt("close: previous close differs");
  if (body.chain != close.header.prev_chain || body.table_entries != closed.table_entries ||
      body.last_sequence.next() != closed.last || body.first_sequence != expected.first_sequence ||
      next_chain(body.chain, header_digest(close.header_bytes())) != closed.chain) {
    return corrupt("close: sequence or chain differs");
  }
  const LineageEntry* writer = incarnation_at(out_.line.lineage(), closed.last);
  if (writer == nullptr || writer->body.salt != closed.incarnation ||
      writer->body.epoch != body.epoch) {
    return corrupt("close: incarnation or epoch differs from MANIFEST's lineage");
  }
  TRY(check_table(segment, body));
  if (read_records) TRY(read_closed_records(segment));
  if (closed.time < out_.line.time()) return corrupt("close: time goes back");
  if (out_.line.last() < closed.last) {
    out_.line.jump({.position = {.incarnation = closed.incarnation, .sequence = closed.last},
                    .chain = closed.chain},
                   closed.time);
  }
  out_.previous_close = closed.close_digest;
  out_.closed.push_back(std::move(segment));
  return {};
}

Status Recovery::check_table(Segment& segment, const CloseBody& body) {
  const uint64_t table_offset = segment.closed->close_offset + Segment::kCloseStoredSize;
  Bytes table(static_cast<size_t>(body.table_entries) * kExtentEntrySize);
  TRY(storage_.read_now(segment.file, table_offset, table));
  if (crypto::sha256(table) != body.table_digest)
    return corrupt("extent table differs from its close");
  std::array<std::byte, kSegmentFooterSize> foot;
  TRY(storage_.read_now(segment.file, table_offset + table.size(), foot));
  const SegmentFooter footer{.close_offset = segment.closed->close_offset,
                             .table_offset = table_offset,
                             .table_entries = body.table_entries,
                             .close_digest = segment.closed->close_digest};
  if (TRY(decode_footer(foot)) != footer) return corrupt("segment footer differs");
  segment.mark(segment.first, kSegmentHeaderSize);
  for (size_t at = 0; at < table.size(); at += kExtentEntrySize) {
    const ExtentEntry entry = TRY(decode_extent(ByteSpan(table).subspan(at, kExtentEntrySize)));
    segment.mark(entry.sequence, kSegmentHeaderSize + entry.position);
    if (visitor_ != nullptr) TRY(visitor_->on_extent(segment, entry));
  }
  return {};
}

Status Recovery::read_closed_records(const Segment& segment) {
  SegmentScanner scanner(storage_, segment.file, kSegmentHeaderSize,
                         segment.closed->close_offset + Segment::kCloseStoredSize);
  SegmentSummary summary;
  summary.start(segment.first);
  while (true) {
    const uint64_t position = scanner.offset() - kSegmentHeaderSize;
    const ScannedRecord record =
        TRY_CONTEXT(scanner.next(), fmt::format("offset {}", scanner.offset()));
    TRY(out_.line.check(record.header, record.payload, options_.faults));
    const bool is_close = record.header.kind == RecordKind::kClose;
    if (is_close && !options_.faults.close_not_checked) {
      TRY(check_close(record, summary, out_.line, out_.previous_close, key_));
    }
    const Digest digest = header_digest(record.header_bytes());
    out_.line.advance(record.header, digest, record.payload);
    if (is_close) break;
    summary.add(record.header, digest, position);
    if (visitor_ != nullptr) {
      visitor_->on_record(out_.closed.size() + 1, record.header, digest, position);
    }
  }
  HF_ASSERT(out_.line.last() == segment.closed->last);
  return {};
}

// A segment that MANIFEST doesn't list as closed: open, ready to be the next, or closed since.
Status Recovery::take_unlisted(const SegmentEntry& entry) {
  Segment segment{.number = entry.number, .closed = {}};
  segment.file = TRY(open_listed(segment.name()));
  const uint64_t size = TRY(storage_.size(segment.file));
  if (out_.open.has_value()) {
    // The line ended before it: whatever it holds is not ours any more.
    return take_prepared(std::move(segment), size);
  }
  return scan_unlisted(std::move(segment), size);
}

// A header that a lost tail left in it says that it was begun; from now on it was not. (Taken out
// of the list, it would look like one that MANIFEST lost.)
Status Recovery::take_prepared(Segment segment, uint64_t size) {
  Bytes head(kSegmentHeaderSize);
  if (size >= head.size()) {
    TRY(storage_.read_now(segment.file, 0, head));
    const Result<SegmentHeader> header = decode_segment_header(head);
    if (header.ok() && header->number == segment.number) {
      out_.repairs.push_back(
          {.file = segment.file, .offset = 0, .bytes = Bytes(kSegmentHeaderSize)});
      out_.inherited.push_back(segment.file);
    }
  }
  out_.prepared.push_back(std::move(segment));
  return {};
}

Status Recovery::scan_unlisted(Segment segment, uint64_t size) {
  segment.first = out_.line.last().next();
  const SegmentHeader header{.number = segment.number,
                             .vm = out_.line.vm(),
                             .first_sequence = segment.first,
                             .prev_chain = out_.line.end().chain,
                             .previous_close = out_.previous_close};
  out_.summary.start(segment.first);
  SegmentScanner scanner(storage_, segment.file, kSegmentHeaderSize, size);
  while (true) {
    const uint64_t offset = scanner.offset();
    Result<ScannedRecord> next = scanner.next();
    if (!next.ok() && next.error().code != ErrorCode::kCorrupt &&
        next.error().code != ErrorCode::kUnsupported) {
      return std::move(next).error();
    }
    const bool whole =
        next.ok() && out_.line.check(next->header, next->payload, options_.faults).ok();
    if (!whole || !TRY(counts(*next))) {
      if (out_.summary.records() == 0) {
        return take_prepared(std::move(segment), size);
      }
      out_.open_end = offset;
      out_.inherited.push_back(segment.file);
      out_.open = std::move(segment);
      break;
    }
    const ScannedRecord& record = *next;
    if (record.header.kind == RecordKind::kClose) {
      TRY(take_close(std::move(segment), record, size));
      break;
    }
    const Digest digest = header_digest(record.header_bytes());
    out_.line.advance(record.header, digest, record.payload);
    segment.mark(record.header.sequence, record.offset);
    out_.summary.add(record.header, digest, record.offset - kSegmentHeaderSize);
    if (visitor_ != nullptr) {
      visitor_->on_record(out_.closed.size() + 1, record.header, digest,
                          record.offset - kSegmentHeaderSize);
    }
    if (visitor_ != nullptr && record.header.has_extent()) {
      TRY(visitor_->on_extent(segment, {.volume = record.header.volume,
                                        .kind = record.header.kind,
                                        .offset = record.header.offset,
                                        .length = record.header.length,
                                        .sequence = record.header.sequence,
                                        .position = record.offset - kSegmentHeaderSize}));
    }
  }
  Bytes head(kSegmentHeaderSize);
  encode_segment_header(header, head);
  plan_repair(out_.inherited.back(), 0, std::move(head), size);
  return {};
}

// A close speaks for itself: it is signed.
Result<bool> Recovery::counts(const ScannedRecord& record) {
  if (visitor_ == nullptr || record.header.kind == RecordKind::kClose) return true;
  Status known = visitor_->on_unlisted(record);
  if (known.ok()) return true;
  const bool given_up =
      known.error().code == ErrorCode::kCorrupt && out_.line.epoch() < options_.bad_tail_given_up;
  if (!given_up) return std::move(known).error();
  return false;
}

Status Recovery::take_close(Segment segment, const ScannedRecord& record, uint64_t size) {
  if (!options_.faults.close_not_checked) {
    TRY(check_close(record, out_.summary, out_.line, out_.previous_close, key_));
  }
  out_.line.advance(record.header, header_digest(record.header_bytes()), record.payload);
  segment.closed =
      ClosedSegment{.first = segment.first,
                    .last = record.header.sequence,
                    .incarnation = record.header.incarnation,
                    .close_offset = record.offset,
                    .table_entries = out_.summary.table_entries(),
                    .time = record.header.time,
                    .close_digest = close_digest(record.header_bytes(), record.payload),
                    .chain = out_.line.end().chain};
  Bytes tail = out_.summary.table();
  tail.resize(tail.size() + kSegmentFooterSize);
  encode_footer({.close_offset = record.offset,
                 .table_offset = record.end(),
                 .table_entries = segment.closed->table_entries,
                 .close_digest = segment.closed->close_digest},
                MutableByteSpan(tail).last<kSegmentFooterSize>());
  plan_repair(segment.file, record.end(), std::move(tail), size);
  out_.inherited.push_back(segment.file);
  out_.previous_close = segment.closed->close_digest;
  out_.closed.push_back(std::move(segment));
  return {};
}

void Recovery::plan_repair(FileId file, uint64_t offset, Bytes expected, uint64_t size) {
  if (offset + expected.size() <= size) {
    Bytes found(expected.size());
    if (storage_.read_now(file, offset, found).ok() && found == expected) return;
  }
  out_.repairs.push_back({.file = file, .offset = offset, .bytes = std::move(expected)});
}

}  // namespace

Status check_nothing_orphaned(Storage& storage) {
  for (const std::string& name : TRY(storage.list())) {
    if (!name.starts_with("segment-") && !name.starts_with("base-")) continue;
    bool empty = false;
    if (name == segment_name(1)) {
      const FileId file = TRY_CONTEXT(storage.open(name, OpenMode::kRead), name);
      std::array<std::byte, kSegmentHeaderSize> head{};
      const bool whole = TRY(storage.size(file)) >= head.size();
      empty = !whole || (storage.read_now(file, 0, head).ok() && all_zero(head));
      TRY(storage.close(file));
    }
    if (!empty) return corrupt("MANIFEST: the file is missing, and " + name + " is there");
  }
  return {};
}

Status check_nothing_missed(Storage& storage, const Manifest& manifest) {
  std::set<std::string> listed = names_of(manifest);
  // Collected ones may be there until they are removed or used again.
  for (const SegmentEntry& entry : manifest.segments) listed.insert(segment_name(entry.number));
  for (const std::string& name : TRY(storage.list())) {
    if (!name.starts_with("segment-") || listed.contains(name)) continue;
    const FileId file = TRY_CONTEXT(storage.open(name, OpenMode::kRead), name);
    std::array<std::byte, kSegmentHeaderSize> head{};
    const bool whole = TRY(storage.size(file)) >= head.size();
    if (whole) TRY(storage.read_now(file, 0, head));
    TRY(storage.close(file));
    // A file of another name's number is one that was about to be used again.
    const Result<SegmentHeader> header = decode_segment_header(head);
    if (!header.ok() || header->vm != manifest.vm || segment_name(header->number) != name) continue;
    if (header->first_sequence <= manifest.horizon.end.position.sequence) continue;
    return corrupt("MANIFEST: its last edits are missing: it does not list " + name +
                   ", which holds newer records");
  }
  return {};
}

void close_files(Storage& storage, const Recovered& recovered) {
  const auto give_back = [&](FileId file) { static_cast<void>(storage.close(file).ok()); };
  for (const Segment& segment : recovered.closed) {
    if (!segment.collected) give_back(segment.file);
  }
  for (const Segment& segment : recovered.prepared) give_back(segment.file);
  if (recovered.open) give_back(recovered.open->file);
  for (FileId file : recovered.bases) give_back(file);
}

Result<Recovered> recover(Storage& storage, const VmId& vm, const crypto::PublicKey& key,
                          const LogOptions& options, RecoveryVisitor* visitor) {
  Result<Recovered> recovered = Recovery(storage, key, options, visitor).run(vm);
  if (recovered.ok()) return recovered;
  Error error = std::move(recovered).error();
  if (error.code == ErrorCode::kNotFound) {
    Status orphaned = check_nothing_orphaned(storage);
    if (orphaned.ok()) return error;
    error = std::move(orphaned).error();
  }
  if (error.code == ErrorCode::kCorrupt) {
    return std::move(error)
        .with_effect("The journal was not opened and nothing in it was changed")
        .with_mend(
            "put the file back from a copy, or recover the VM from its replica: "
            "holdfast failover unplanned");
  }
  return error;
}

}  // namespace hf::journal
