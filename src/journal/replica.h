// ReplicaJournal: another site's journal, received without its key.
//
// Takes sealed records as they were shipped, checks what can be checked without the key (header
// CRC, VM, sequence, chain, payload digest, and at each close the Merkle root, the extent table,
// the close before and the signature by the pinned key) and appends the same bytes. At failover
// Journal::open with the key opens the same directory.
//
// Completions, failure and threads: as Journal. create(), open() and the calls for seeding block.
#pragma once

#include <memory>

#include "base/clock.h"
#include "base/storage.h"
#include "journal/format/lineage.h"
#include "journal/format/options.h"
#include "journal/ship/sealed_source.h"
#include "journal/ship/seed.h"

namespace hf::journal {

class ReplicaJournal final : public SealedSource {
 public:
  static Result<std::unique_ptr<ReplicaJournal>> create(Storage&, Clock&, const ReplicaOptions&);
  // Recovers as Journal::open does, without tags. kCorrupt, kNotFound, kConflict (another VM's),
  // kWrongKey (another public key).
  static Result<std::unique_ptr<ReplicaJournal>> open(Storage&, Clock&, const ReplicaOptions&);

  ~ReplicaJournal();
  ReplicaJournal(const ReplicaJournal&) = delete;
  ReplicaJournal& operator=(const ReplicaJournal&) = delete;

  // Whole records that follow end(), as shipped. Returns the bytes taken: fewer than given when the
  // staging buffers are full (offer the rest again when accepting()). A record that does not check
  // stops it with kCorrupt (or kConflict: epoch went back); those before it were taken. A record
  // with a bad close is not taken.
  Result<size_t> append_sealed(ByteSpan records);
  bool accepting() const;

  // Completes when every record taken before this call is appended and durable.
  void flush(Completion& done);

  // ---- Seeding: for a replica whose next records are merged away at their home. ----
  // Takes base files beside what is here, which stays as it is until finish_seed(). A seed that is
  // begun, given up or cut off by a crash leaves nothing. Blocking.
  // kConflict: the seed is not of the line this replica is on, or does not reach further.
  Status begin_seed(const SeedDescription& seed);
  Status append_seed(ByteSpan bytes);  // of the description's files, one after the other
  void abandon_seed();
  uint64_t seed_taken() const;  // bytes; 0 without a seed
  uint64_t seed_total() const;
  // All bytes are there (asserted) and idle() (asserted): makes them the journal, at once and
  // durably. Afterwards replaced(), and open() has to be called for what is there now. On an error
  // too, if it came from the switch itself: either journal is there, whole.
  Status finish_seed();
  bool replaced() const;
  // What its records and a seed that is under way take of the disk; the one or two files that are
  // prepared for more of them are not counted. `cut_at_opening`: of that, the unused rest of
  // segments that were closed short.
  struct Stored {
    uint64_t bytes = 0;
    uint64_t cut_at_opening = 0;
  };
  Stored stored() const;

  // For a further site, a check or a test.
  void read_sealed(const Position& after, size_t max_bytes, SealedRead& done) override;
  Result<LineMatch> locate(const LineEnd& peer) override;
  Result<Bytes> describe_seed() override;
  void read_seed(uint64_t base, uint64_t offset, size_t length, SealedRead& done) override;

  void tick();
  Micros next_deadline() const;

  LineEnd end() const;  // of what was taken
  LineEnd durable_end() const override;
  const Lineage& lineage() const;
  Epoch epoch() const;          // of the last incarnation; 0 before the first record
  Micros durable_time() const;  // record time of the last durable record
  const Error* failed() const;
  bool idle() const;

 private:
  struct Impl;
  explicit ReplicaJournal(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace hf::journal
