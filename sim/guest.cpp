#include "sim/guest.h"

#include <algorithm>

namespace hf::sim {

enum class RequestKind : uint8_t { kChange, kFlush, kRead };

struct Guest::Request final : Completion {
  explicit Request(Guest& owner) : guest(owner) {}
  void on_complete(Status status) override { guest.finished(*this, std::move(status)); }

  Guest& guest;
  RequestKind kind = RequestKind::kChange;
  journal::AckAt ack = journal::AckAt::kAppended;
  Sequence sequence;  // of a change; of a flush: what it must cover
  size_t region = 0;  // of a read, and the cells as they were when it was asked
  uint32_t cell = 0;
  Bytes bytes;
  std::vector<Stamp> before;
  Done done;
  std::list<std::unique_ptr<Request>>::iterator place;
};

Guest::Guest(std::string name, Judge& judge, Scheduler& scheduler, SimRng rng, Ledger& ledger,
             Options options)
    : name_(std::move(name)),
      judge_(judge),
      scheduler_(scheduler),
      rng_(std::move(rng)),
      ledger_(ledger),
      options_(options) {}

Guest::~Guest() = default;

void Guest::boot(journal::Journal& journal, Sequence inherited) {
  HF_ASSERT(journal_ == nullptr && requests_.empty());
  journal_ = &journal;
  const size_t lost = history_.cut_after(inherited);
  if (lost > 0) judge_.reached(Probe::requests_lost_in_flight);
  image_ = history_.image(ledger_);
  judge_.note("{}: guest boots on the prefix up to {}, {} operations lost", name_, inherited.value,
              lost);
  check_counters();
  read_everything();
}

void Guest::crash() {
  journal_ = nullptr;
  requests_.clear();
  checks_left_ = 0;
  step_ = Step::kStopped;
  step_busy_ = false;
  life_++;
}

void Guest::inherit(const Guest& other) {
  HF_ASSERT(journal_ == nullptr);
  history_ = other.history_;
}

void Guest::renew_promises(Sequence inherited) {
  acknowledged_ = inherited;
  flushed_ = inherited;
}

void Guest::check_counters() {
  const uint64_t disk = ledger_.counter(image_.at(kRegionDisk1, 0));
  const uint64_t tpm = ledger_.counter(image_.at(kRegionTpm, 0));
  const uint64_t uefi = ledger_.counter(image_.at(kRegionUefi, 0));
  if (disk - tpm > 1 || tpm - uefi > 1) {
    judge_.violated("{}: order: disk {}, TPM {}, UEFI {}", name_, disk, tpm, uefi);
  }
  // Bring TPM and variable level with the disk, then go on.
  counter_ = disk;
  step_ = disk == 0 ? Step::kDisk : Step::kTpm;
  if (disk == 0) counter_ = 1;
  step_busy_ = false;
}

void Guest::read_everything() {
  // One more than there are reads, until all are asked for.
  checks_left_ = 1;
  for (size_t index = 0; index < kRegionCount; index++) {
    const uint32_t total = region(index).cells;
    for (uint32_t cell = 0; cell < total;) {
      const auto cells =
          static_cast<uint32_t>(std::min<uint64_t>(total - cell, rng_.between(128, 512)));
      checks_left_++;
      read(index, cell, cells, [this] {
        if (--checks_left_ == 0) schedule();
      });
      cell += cells;
    }
  }
  if (--checks_left_ == 0) schedule();
}

void Guest::schedule() {
  scheduler_.after(rng_.between(1, options_.think_us_max), [this, life = life_] {
    if (life != life_ || resting_) return;
    act();
    schedule();
  });
}

void Guest::act() {
  if (journal_ == nullptr || journal_->failed() != nullptr) return;
  if (!step_busy_ && rng_.chance(1, 2)) return probe_step();
  if (requests_.size() < options_.in_flight_max) background();
}

void Guest::probe_step() {
  step_busy_ = true;
  const auto next = [this](Step step) {
    return [this, step] {
      step_ = step;
      step_busy_ = false;
    };
  };
  bool taken = true;
  switch (step_) {
    case Step::kDisk:
      taken = submit({.region = kRegionDisk1, .cell = 0, .cells = 1, .counter = counter_},
                     journal::AckAt::kAppended, next(Step::kDiskFlush));
      break;
    case Step::kDiskFlush:
      flush(next(Step::kTpm));
      break;
    case Step::kTpm:
      taken = submit(
          {.region = kRegionTpm, .cell = 0, .cells = region(kRegionTpm).cells, .counter = counter_},
          journal::AckAt::kDurable, next(Step::kUefi));
      break;
    case Step::kUefi:
      taken = submit({.region = kRegionUefi, .cell = 0, .cells = 1, .counter = counter_},
                     journal::AckAt::kAppended, [this] {
                       counter_++;
                       step_ = Step::kDisk;
                       step_busy_ = false;
                     });
      break;
    case Step::kStopped:
      break;
  }
  if (!taken) step_busy_ = false;
}

void Guest::background() {
  const uint64_t dice = rng_.below(16);
  if (dice < 2) return flush([] {});
  // The first cells of disk 1 and of the variable store are the probe loop's.
  const size_t index = rng_.below(4) == 0 ? kRegionUefi : rng_.below(2);
  const uint32_t total = region(index).cells;
  const auto cell = static_cast<uint32_t>(rng_.between(1, total - 1));
  const uint32_t room = std::min(total - cell, options_.cells_max);
  const auto cells =
      static_cast<uint32_t>(rng_.between(1, rng_.chance(1, 2) ? std::min(room, 8u) : room));
  if (dice < 5) return read(index, cell, cells, [] {});
  const bool durable = rng_.chance(1, 12);
  submit({.kind = dice == 5 ? OpKind::kZero : OpKind::kWrite,
          .region = index,
          .cell = cell,
          .cells = cells},
         durable ? journal::AckAt::kDurable : journal::AckAt::kAppended, [] {});
}

bool Guest::submit(const Op& op, journal::AckAt ack, Done done) {
  if (!journal_->accepting()) return false;
  const Stamp stamp = ledger_.add(op);
  auto request = std::make_unique<Request>(*this);
  request->ack = ack;
  request->done = std::move(done);
  const Region& at = region(op.region);
  const uint64_t offset = at.base + uint64_t{op.cell} * kCellSize;
  Result<Sequence> taken = Error{};
  if (op.kind == OpKind::kZero) {
    taken = journal_->zero(at.volume, offset, op.cells * kCellSize, request.get(), {.ack = ack});
  } else {
    Bytes bytes(op.cells * kCellSize);
    for (uint32_t i = 0; i < op.cells; i++) {
      fill_cells(stamp, op.region, op.cell + i,
                 MutableByteSpan(bytes).subspan(i * kCellSize, kCellSize));
    }
    taken = journal_->write(at.volume, offset, bytes, request.get(), {.ack = ack});
  }
  if (!taken.ok()) return false;
  operations_++;
  judge_.note("{}: operation {} is record {}: {} region {}, cells {}..{}", name_, stamp,
              taken->value, op.kind == OpKind::kZero ? "zero" : "write", op.region, op.cell,
              op.cell + op.cells - 1);
  request->sequence = *taken;
  history_.add(*taken, stamp);
  image_.apply(op, stamp);
  requests_.push_back(std::move(request));
  requests_.back()->place = std::prev(requests_.end());
  return true;
}

void Guest::flush(Done done) {
  auto request = std::make_unique<Request>(*this);
  request->kind = RequestKind::kFlush;
  request->sequence = acknowledged_;
  request->done = std::move(done);
  Request& to = *request;
  requests_.push_back(std::move(request));
  to.place = std::prev(requests_.end());
  operations_++;
  journal_->flush(to);
}

void Guest::read(size_t index, uint32_t cell, uint32_t cells, Done done) {
  auto request = std::make_unique<Request>(*this);
  request->kind = RequestKind::kRead;
  request->region = index;
  request->cell = cell;
  request->bytes.resize(cells * kCellSize, std::byte{0xcc});
  for (uint32_t i = 0; i < cells; i++) request->before.push_back(image_.at(index, cell + i));
  request->done = std::move(done);
  Request& to = *request;
  requests_.push_back(std::move(request));
  to.place = std::prev(requests_.end());
  operations_++;
  const Region& at = region(index);
  journal_->read(at.volume, at.base + uint64_t{cell} * kCellSize, to.bytes, to);
}

void Guest::finished(Request& request, Status status) {
  const std::unique_ptr<Request> owned = std::move(*request.place);
  requests_.erase(request.place);
  if (!status.ok()) {
    if (request.kind == RequestKind::kRead) {
      judge_.violated("{}: read failed: {}", name_, status.error().describe());
    } else if (journal_->failed() == nullptr) {
      judge_.violated("{}: a request failed in a working journal: {}", name_,
                      status.error().describe());
    }
    return;
  }
  switch (request.kind) {
    case RequestKind::kChange:
      acknowledged_ = std::max(acknowledged_, request.sequence);
      if (request.ack == journal::AckAt::kDurable) flushed_ = std::max(flushed_, request.sequence);
      break;
    case RequestKind::kFlush:
      flushed_ = std::max(flushed_, request.sequence);
      break;
    case RequestKind::kRead:
      judge_read(request);
      break;
  }
  request.done();
}

std::string Guest::whose(size_t index, uint32_t cell, ByteSpan bytes) const {
  std::array<std::byte, kCellSize> candidate;
  for (Stamp stamp = 0; stamp <= ledger_.last(); stamp++) {
    fill_cells(stamp, index, cell, candidate);
    if (std::ranges::equal(bytes, candidate))
      return stamp == 0 ? "zero" : fmt::format("operation {}'s", stamp);
  }
  return "nobody's";
}

void Guest::judge_read(const Request& request) {
  std::array<std::byte, kCellSize> expected;
  for (size_t i = 0; i < request.before.size(); i++) {
    const auto cell = request.cell + static_cast<uint32_t>(i);
    // Written since it was asked for: either is right, but nothing in between was remembered.
    if (image_.at(request.region, cell) != request.before[i]) continue;
    fill_cells(request.before[i], request.region, cell, expected);
    if (std::memcmp(expected.data(), request.bytes.data() + i * kCellSize, kCellSize) != 0) {
      judge_.violated(
          "{}: content: volume {}, cell {} of region {} should be operation {}'s, it is {}", name_,
          region(request.region).volume.value, cell, request.region, request.before[i],
          whose(request.region, cell, ByteSpan(request.bytes).subspan(i * kCellSize, kCellSize)));
    }
  }
}

}  // namespace hf::sim
