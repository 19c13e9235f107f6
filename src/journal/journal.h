// Journal: every durable change of one VM, in one order, sealed with its key (DESIGN: "The
// journal").
//
// Sans-I/O: files, time and entropy come through Storage, Clock and Rng; the simulator supplies its
// own. One thread owns a Journal and its Storage. create() and open() block; everything else
// returns at once, but for locate() and describe_seed(), which read headers and footers, and the
// mark of a failed sync (record_log.h). What takes long is cut: a merge seals at most
// Options::merge_step_bytes between two turns of the event loop.
//
// Completions are called from inside a Storage completion or tick(), never from inside the call
// that took them; they may call back into the Journal. When something waits for a tick only,
// next_deadline() is in the past: call tick() after each turn of the event loop once it is due.
//
// Acknowledgement: a write completes when its record and all records before it are appended (they
// survive this process); with AckAt::kDurable, or after flush(), when they are durable (they
// survive the host). Sequence order is the truth about overlapping writes.
//
// Failure: a failed append or sync is final (a number that entered the cipher is never sealed
// again, and a failed sync may have lost anything it covered). The journal is then failed(): every
// pending and later call completes with that error. Reads of what was appended still work.
#pragma once

#include <memory>
#include <optional>

#include "base/clock.h"
#include "base/storage.h"
#include "journal/format/lineage.h"
#include "journal/format/options.h"
#include "journal/map/pins.h"
#include "journal/seal/keys.h"
#include "journal/ship/sealed_source.h"

namespace hf::journal {

enum class AckAt : uint8_t { kAppended, kDurable };
enum class RequestPart : uint8_t { kMiddle, kLast };  // kLast sets the record's request-end flag

struct WriteOptions {
  AckAt ack = AckAt::kAppended;
  RequestPart part = RequestPart::kLast;
};

struct JournalStatus {
  Sequence accepted;  // the last number given out
  Sequence appended;
  Sequence durable;
  uint64_t unsynced_bytes = 0;
  Micros oldest_unsynced_time;  // record time of the first record not durable; 0 if none
  size_t segments = 0;          // closed ones
  size_t bases = 0;
  uint64_t index_extents = 0;
  uint64_t pinned_bytes = 0;  // that merging holds back for a peer
};

class Journal final : public SealedSource {
 public:
  // An empty directory only (kExists). Durable when it returns, first incarnation record included.
  static Result<std::unique_ptr<Journal>> create(Storage&, Clock&, Rng&, JournalKeys,
                                                 const Options&);

  // Recovers: finds the end of the chain, cuts a torn tail, checks closes, tables and (see
  // LogOptions::verify_bytes_max) records, and every tag after the last close; makes what it
  // inherited durable; opens a new incarnation. Also opens a replica's journal: that is promotion.
  // Nothing is written before all checks have passed.
  //   kNotFound  no journal here        kWrongKey  not this VM's key
  //   kCorrupt   names file and what differs
  //   kConflict  options.epoch is below the lineage's last, or equal to another site's; or the line
  //              does not hold options.known_durable
  static Result<std::unique_ptr<Journal>> open(Storage&, Clock&, Rng&, JournalKeys, const Options&);

  ~Journal();
  Journal(const Journal&) = delete;
  Journal& operator=(const Journal&) = delete;

  // ---- Appending. `data` is sealed (copied) before the call returns. `done` may be null. ----
  // Errors are immediate and leave nothing behind: kLimit when !accepting() or data exceeds
  // kRecordDataMax (split requests, RequestPart), or the journal's failure.
  Result<Sequence> write(VolumeId, uint64_t offset, ByteSpan data, Completion* done,
                         WriteOptions = {});
  Result<Sequence> zero(VolumeId, uint64_t offset, uint64_t length, Completion* done,
                        WriteOptions = {});
  Result<Sequence> marker(ByteSpan data, Completion* done, WriteOptions = {});

  // True while a record of the largest size can be taken. It becomes true again as appends
  // complete.
  bool accepting() const;

  // Completes when every record appended (not merely accepted) before this call is durable.
  void flush(Completion& done);

  // ---- Reading. What was never written reads as zeroes; what was accepted reads back at once.
  // ---- `to` must stay valid until completion. kCorrupt if a unit's tag differs: nothing of it is
  // given.
  void read(VolumeId, uint64_t offset, MutableByteSpan to, Completion& done);

  // ---- For a peer (SealedSource). What it may still ask for is kept from merging, within bounds
  // ---- (map/pins.h, Options::pin_bytes_max).
  void read_sealed(const Position& after, size_t max_bytes, SealedRead& done) override;
  Result<LineMatch> locate(const LineEnd& peer) override;
  // A description, and then reading what it names, keeps files and tail as they are for some time
  // (Pins::kLeaseUs): an asker that is gone holds nothing.
  Result<Bytes> describe_seed() override;
  void read_seed(uint64_t base, uint64_t offset, size_t length, SealedRead& done) override;
  // Segments with records after this position are not merged; empty: no peer, nothing pinned.
  void pin(std::optional<Sequence> peer_durable);
  // Once after the pin, or a seed's lease, held more than Options::pin_bytes_max and was let go:
  // the peer will need a seed. To be looked at once a turn.
  std::optional<PinRelease> take_pin_release();

  // ---- Time. ----
  void tick();
  Micros next_deadline() const;  // monotonic; UINT64_MAX when nothing is due

  // Appends a signed close, makes all durable, completes; nothing may be appended afterwards.
  // Destroy a Journal when idle(), or when its Storage completes nothing more.
  void close(Completion& done);

  // ---- State. ----
  LineEnd end() const;  // of what is appended
  LineEnd durable_end() const override;
  const Lineage& lineage() const;
  Epoch epoch() const;
  const crypto::PublicKey& public_key() const;
  JournalStatus status() const;
  const Error* failed() const;  // nullptr while it works
  bool idle() const;            // no write, sync or read in flight

 private:
  struct Impl;
  explicit Journal(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace hf::journal
