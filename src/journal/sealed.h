// SealedJournal: a home journal that is at rest, opened without its key: for who looks after a
// stopped VM and still has to give its replica what that lacks.
//
// Whoever opens one owns the directory (its lock is held) until the object is gone: nothing is
// appended, but opening finishes what a crash left, as every opening does. Derived bytes are
// written again (a torn table of a complete segment), what was inherited is synced, and MANIFEST is
// stored. So what is given out afterwards is durable, and the next keeper with the key finds the
// same line.
//
// What is believed without the key:
//   - bases and closed segments: signed by the VM's journal key, checked here as Journal::open does
//   - the tail after the last close (a keeper that was killed leaves one): that each record is
//     whole (CRC, payload digest) and next in line (VM, sequence, chain, time). That shows damage,
//     not forgery: whoever can write to the directory can make records that chain. Only who has the
//     key can vouch for them (Journal::open checks every tag after the last close and refuses).
//     vouched_end() is how far signatures reach. A replica believes no more of them either.
// Nor does it show that the line is not an older copy: that is for the vault's freshness record.
//
// Completions, failure and threads: as Journal.
#pragma once

#include <memory>

#include "base/clock.h"
#include "base/storage.h"
#include "journal/format/options.h"
#include "journal/ship/sealed_source.h"

namespace hf::journal {

class SealedJournal final : public SealedSource {
 public:
  // Blocking. kNotFound: no journal here. kWrongKey, kConflict: of another key, another VM.
  // kCorrupt names file and what differs; nothing was written then.
  static Result<std::unique_ptr<SealedJournal>> open(Storage&, Clock&, const ReplicaOptions&);

  ~SealedJournal();
  SealedJournal(const SealedJournal&) = delete;
  SealedJournal& operator=(const SealedJournal&) = delete;

  void read_sealed(const Position& after, size_t max_bytes, SealedRead& done) override;
  Result<LineMatch> locate(const LineEnd& peer) override;
  // Nothing is merged while it is open: a description stays true as long.
  Result<Bytes> describe_seed() override;
  void read_seed(uint64_t base, uint64_t offset, size_t length, SealedRead& done) override;

  void tick();
  Micros next_deadline() const;

  LineEnd durable_end() const override;  // of the line
  LineEnd vouched_end() const;           // of what is signed
  Micros durable_time() const;           // record time of its last record
  const Lineage& lineage() const;
  Epoch epoch() const;  // of the last incarnation
  bool idle() const;    // no read in flight: it may go

 private:
  struct Impl;
  explicit SealedJournal(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace hf::journal
