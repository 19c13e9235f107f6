// Recovery: from the files of a journal to where its line ends, without writing anything.
//
//   1 MANIFEST names the files.           its digest must fit
//   2 closed segments, oldest first       close signed and next in line, table, footer, header; the
//                                         newest ones record by record
//                                         (LogOptions::verify_bytes_max)
//   3 the other segments, record by record: while a record is whole and next in line it counts; the
//     first that is not is the torn tail. A close found on the way is checked like any other.
//
// A difference in 1 and 2 is damage or an attack (kCorrupt names file and what differs): those
// files were durable. In 3 a crash leaves any mixture of unsynced sectors, so a difference ends the
// line. That the line is not shorter than it was is for freshness (the vault's position) to say.
#pragma once

#include "journal/format/options.h"
#include "journal/log/scanner.h"
#include "journal/log/segment.h"

namespace hf::journal {

// Who recovers hears of everything that counts, in order.
class RecoveryVisitor {
 public:
  // Before any file: of how many of the oldest segments maps say what they left. They are not
  // read, and may be collected; each after them is read record by record. Empty: there are no maps.
  virtual Result<std::optional<size_t>> on_manifest(const Manifest&) {
    return std::optional<size_t>();
  }
  virtual Status on_base(const BaseEntry& base, FileId file) = 0;
  virtual Status on_extent(const Segment& segment, const ExtentEntry& entry) = 0;
  // Of each record that is read and counts; `ordinal`: its segment's, from 1.
  virtual void on_record(uint64_t, const RecordHeader&, const Digest& /*header*/,
                         uint64_t /*position*/) {}
  // Each record of step 3 before it counts. An error stops the recovery, or ends the line before it
  // (LogOptions::bad_tail_given_up).
  virtual Status on_unlisted(const ScannedRecord& record) = 0;

 protected:
  ~RecoveryVisitor() = default;
};

// Bytes that a crash kept from a file that is otherwise whole; derived, so written again.
struct Repair {
  FileId file;
  uint64_t offset = 0;
  Bytes bytes;
};

struct Recovered {
  Manifest manifest;
  Line line;
  std::vector<Segment> closed;    // oldest first
  std::optional<Segment> open;    // holds records and no close
  uint64_t open_end = 0;          // file offset after its last record
  SegmentSummary summary;         // of its records
  std::vector<Segment> prepared;  // listed, not begun
  Digest previous_close;
  std::vector<Repair> repairs;
  std::vector<FileId> inherited;  // files whose bytes may not be durable yet
  std::vector<FileId> bases;
};

// `visitor` may be null. Files stay open in the result; on an error they are closed again.
Result<Recovered> recover(Storage& storage, const VmId& vm, const crypto::PublicKey& key,
                          const LogOptions& options, RecoveryVisitor* visitor);

// kCorrupt if there are segments or bases that held something but no MANIFEST: it was lost, and
// nothing may be created over what is left. (A creation that a crash cut off leaves an empty
// file 1.)
Status check_nothing_orphaned(Storage& storage);

// kCorrupt if a segment that `manifest` doesn't list holds records of after its horizon: none is
// written before a durable MANIFEST lists it, so this one lost its last edits. Opened, it would
// show an older line, and the file with the newer records would be removed.
Status check_nothing_missed(Storage& storage, const Manifest& manifest);

// Gives back the files of a result that is not used.
void close_files(Storage& storage, const Recovered& recovered);

// The check of a close record, shared with the replica's receiver: what it says against what its
// segment adds up to, and its signature. kCorrupt names what differs.
Status check_close(const ScannedRecord& record, const SegmentSummary& summary, const Line& line,
                   const Digest& previous_close, const crypto::PublicKey& key);
// The signature alone.
Status check_close_signature(const ScannedRecord& record, const crypto::PublicKey& key);

}  // namespace hf::journal
