#include "volume/journal_front.h"

#include <algorithm>

namespace hf::volume {

void Request::begin(uint32_t parts) {
  parts_left_ = parts;
  progress_ = 0;
  result_ = Status();
}

// One of the request's parts has completed; the request is done with its last one. The first error
// stays.
void Request::on_complete(Status status) {
  HF_ASSERT(parts_left_ > 0);
  if (!status.ok() && result_.ok()) result_ = std::move(status);
  JournalFront* front = front_;
  if (--parts_left_ == 0) on_done(std::move(result_));  // `this` may be gone or reused now
  if (front != nullptr) front->after_progress();
}

JournalFront::JournalFront(journal::Journal& journal, sys::Scheduler& scheduler)
    : journal_(journal), scheduler_(scheduler) {
  arm_tick();
}

JournalFront::~JournalFront() {
  HF_ASSERT(head_ == nullptr);
  scheduler_.disarm(*this);
  scheduler_.cancel(*this);
}

void JournalFront::submit(VolumeId volume, Request& request) {
  request.volume_ = volume;
  request.front_ = this;
  request.next_ = nullptr;
  uint32_t parts = 1;
  if (request.kind == RequestKind::kWrite) {
    HF_ASSERT(request.write_from.size() == request.length && request.length > 0);
    parts = static_cast<uint32_t>((request.length + journal::kRecordDataMax - 1) /
                                  journal::kRecordDataMax);
  } else if (request.kind == RequestKind::kRead) {
    HF_ASSERT(request.read_to.size() == request.length);
  }
  request.begin(parts);
  const bool blocked = head_ != nullptr && request.kind != RequestKind::kRead;
  if (blocked || !start(request)) {
    (head_ == nullptr ? head_ : tail_->next_) = &request;
    tail_ = &request;
  }
  after_progress();
}

// False if the journal does not accept now; nothing (more) of the request was started then.
bool JournalFront::start(Request& request) {
  switch (request.kind) {
    case RequestKind::kRead:
      journal_.read(request.volume_, request.offset, request.read_to, request);
      return true;
    case RequestKind::kWrite:
      return start_write(request);
    case RequestKind::kFlush:
      if (!journal_.accepting()) return false;
      release_held();
      journal_.flush(request);
      return true;
    case RequestKind::kTrim:
    case RequestKind::kWriteZeroes: {
      if (!journal_.accepting()) return false;
      release_held();
      if (!journal_.accepting()) return false;
      const auto ack = request.durability == Durability::kDurable ? journal::AckAt::kDurable
                                                                  : journal::AckAt::kAppended;
      auto taken =
          journal_.zero(request.volume_, request.offset, request.length, &request, {.ack = ack});
      if (!taken.ok()) refuse(request, std::move(taken).error());
      return request.result_.ok();
    }
  }
  return true;
}

bool JournalFront::start_write(Request& request) {
  while (request.progress_ < request.length) {
    if (!journal_.accepting()) return false;
    release_held();
    if (!journal_.accepting()) return false;
    const uint64_t size =
        std::min<uint64_t>(journal::kRecordDataMax, request.length - request.progress_);
    const bool last = request.progress_ + size == request.length;
    const auto ack = request.durability == Durability::kDurable ? journal::AckAt::kDurable
                                                                : journal::AckAt::kAppended;
    auto taken = journal_.write(
        request.volume_, request.offset + request.progress_,
        request.write_from.subspan(request.progress_, size), &request,
        {.ack = ack, .part = last ? journal::RequestPart::kLast : journal::RequestPart::kMiddle});
    if (!taken.ok()) {
      refuse(request, std::move(taken).error());
      return false;
    }
    request.progress_ += size;
  }
  return true;
}

// The journal did not take it: it completes with that error, from the loop.
void JournalFront::refuse(Request& request, Error error) {
  request.result_ = std::move(error);
  if (!queued()) scheduler_.defer(*this);
}

bool JournalFront::try_write(VolumeId volume, uint64_t offset, ByteSpan data, Completion* done,
                             journal::AckAt ack) {
  if (!journal_.accepting()) return false;
  auto taken = journal_.write(volume, offset, data, done, {.ack = ack});
  after_progress();
  return taken.ok();
}

void JournalFront::release_held() {
  if (held_ != nullptr && journal_.accepting()) held_->append_held();
}

void JournalFront::after_progress() {
  if (head_ != nullptr && !queued() && (journal_.accepting() || journal_.failed() != nullptr)) {
    scheduler_.defer(*this);
  }
  arm_tick();
}

void JournalFront::run() {
  while (head_ != nullptr) {
    Request& request = *head_;
    const Error* failed = journal_.failed();
    if (failed != nullptr && request.result_.ok()) request.result_ = Error(*failed);
    if (request.result_.ok() && !start(request)) {
      if (request.result_.ok()) break;
    }
    head_ = request.next_;
    if (head_ == nullptr) tail_ = nullptr;
    request.next_ = nullptr;
    if (!request.result_.ok()) {
      // Parts the journal has taken complete by themselves; the others never will.
      const auto taken = static_cast<uint32_t>(
          request.kind == RequestKind::kWrite
              ? (request.progress_ + journal::kRecordDataMax - 1) / journal::kRecordDataMax
              : 0);
      const auto parts = static_cast<uint32_t>(
          request.kind == RequestKind::kWrite
              ? (request.length + journal::kRecordDataMax - 1) / journal::kRecordDataMax
              : 1);
      for (uint32_t i = taken; i < parts; ++i) {
        if (--request.parts_left_ == 0) {
          request.on_done(std::move(request.result_));
          break;
        }
      }
    }
  }
  arm_tick();
}

void JournalFront::arm_tick() {
  const Micros due = journal_.next_deadline();
  if (due == tick_at_ && (armed() || due.value == UINT64_MAX)) return;
  tick_at_ = due;
  if (due.value == UINT64_MAX) {
    scheduler_.disarm(*this);
  } else {
    scheduler_.arm(*this, due);
  }
}

void JournalFront::on_timer() {
  journal_.tick();
  tick_at_ = Micros(UINT64_MAX);
  after_progress();
}

}  // namespace hf::volume
