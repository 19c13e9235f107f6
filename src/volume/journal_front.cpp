#include "volume/journal_front.h"

#include <utility>

namespace hf::volume {

JournalFront::JournalFront(journal::Journal& journal, sys::Scheduler& scheduler)
    : journal_(journal), scheduler_(scheduler), driver_(journal, scheduler) {
  scheduler_.each_turn(turn_);
}

JournalFront::~JournalFront() {
  HF_ASSERT(idle());
  scheduler_.end_turns(turn_);
  scheduler_.cancel(*this);
}

void JournalFront::submit(VolumeId volume, Request& request) {
  // What waits is overtaken by reads only: a guest that cares for the order waits for its write.
  const bool behind = !blocked_.empty() && request.operation != Operation::kRead;
  if (behind || !start(volume, request)) blocked_.push_back({volume, &request});
}

// False if the request must wait: the journal does not accept now, or never will again.
bool JournalFront::start(VolumeId volume, Request& request) {
  if (request.operation == Operation::kRead) {
    journal_.read(volume, request.offset, request.span(), take(volume, request));
    return true;
  }
  if (journal_.failed() != nullptr || !journal_.accepting()) return false;
  if (held_ != nullptr) held_->append_held();
  if (request.operation == Operation::kFlush) {
    // The journal's flush covers what is appended, not what is accepted only.
    if (held_ != nullptr && held_->appending()) return false;
    journal_.flush(take(volume, request));
    return true;
  }
  if (!journal_.accepting()) return false;
  Pending& pending = take(volume, request);
  if (append(volume, request, pending).ok()) return true;
  give_back(pending);
  return false;
}

Result<Sequence> JournalFront::append(VolumeId volume, Request& request, Pending& pending) {
  const journal::WriteOptions options{
      .ack = request.fua ? journal::AckAt::kDurable : journal::AckAt::kAppended,
      .part = request.request_end ? journal::RequestPart::kLast : journal::RequestPart::kMiddle};
  if (request.operation == Operation::kWrite) {
    return journal_.write(volume, request.offset, request.span(), &pending, options);
  }
  return journal_.zero(volume, request.offset, request.length, &pending, options);
}

bool JournalFront::try_write(VolumeId volume, uint64_t offset, ByteSpan data, Completion* done) {
  if (journal_.failed() != nullptr || !journal_.accepting()) return false;
  return journal_.write(volume, offset, data, done).ok();
}

JournalFront::Pending& JournalFront::take(VolumeId volume, Request& request) {
  if (free_ == nullptr) free_ = &pool_.emplace_back();
  Pending& pending = *free_;
  free_ = pending.next_free;
  pending.front = this;
  pending.volume = volume;
  pending.request = &request;
  ++in_journal_;
  return pending;
}

void JournalFront::give_back(Pending& pending) {
  pending.request = nullptr;
  pending.next_free = std::exchange(free_, &pending);
  --in_journal_;
}

void JournalFront::Pending::on_complete(Status status) {
  Request& done = *request;
  JournalFront& owner = *front;
  owner.give_back(*this);
  if (!status.ok() && done.operation != Operation::kRead && owner.journal_.failed() != nullptr) {
    owner.blocked_.push_back({volume, &done});
  } else {
    done.on_done(std::move(status));
  }
}

void JournalFront::run_soon() {
  if (!queued()) scheduler_.defer(*this);
}

void JournalFront::run() {
  while (!blocked_.empty() && start(blocked_.front().volume, *blocked_.front().request)) {
    blocked_.pop_front();
  }
}

void JournalFront::on_turn() {
  if (!blocked_.empty() && journal_.failed() == nullptr && journal_.accepting()) run_soon();
}

}  // namespace hf::volume
