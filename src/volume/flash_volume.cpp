#include "volume/flash_volume.h"

#include <algorithm>
#include <utility>

namespace hf::volume {
namespace {
constexpr uint64_t kRetryUs = 1'000;  // while the journal's staging is full
}

FlashVolume::FlashVolume(JournalFront& front, VolumeId volume, uint64_t base, Bytes image,
                         Scratch* scratch)
    : front_(front), volume_(volume), base_(base), image_(std::move(image)), scratch_(scratch) {
  front_.set_held(this);
}

FlashVolume::~FlashVolume() {
  HF_ASSERT(idle());
  front_.set_held(nullptr);
  front_.scheduler().disarm(*this);
  front_.scheduler().cancel(*this);
}

void FlashVolume::replace(Bytes image) {
  HF_ASSERT(settled() && image.size() == image_.size());
  image_ = std::move(image);
}

void FlashVolume::submit(Request& request) {
  check(request);
  switch (request.operation) {
    case Operation::kRead:
      std::copy_n(image_.begin() + static_cast<std::ptrdiff_t>(request.offset), request.length,
                  request.data);
      return finish_later(request);
    case Operation::kTrim:  // advice; a flash keeps its bytes
      return finish_later(request);
    case Operation::kFlush:
      return front_.submit(volume_, request);  // appends what is held first
    case Operation::kWrite:
    case Operation::kWriteZeroes:
      if (appending_ || !waiting_.empty() || !apply(request)) {
        waiting_.push(request);
        if (!appending_) wait(kRetryUs);
      }
  }
}

bool FlashVolume::apply(Request& request) {
  const Bytes zeroes(request.operation == Operation::kWriteZeroes ? request.length : 0);
  const ByteSpan bytes = zeroes.empty() ? request.span() : ByteSpan(zeroes);
  if (!apply(request.offset, bytes)) return false;
  if (request.fua) {
    request.operation = Operation::kFlush;  // what is held, then a sync
    front_.submit(volume_, request);
  } else {
    finish_later(request);
  }
  return true;
}

void FlashVolume::wait(uint64_t microseconds) {
  front_.scheduler().arm(*this, Micros(front_.scheduler().now().value + microseconds));
}

// False if what is held must go first; nothing changed then.
bool FlashVolume::apply(uint64_t offset, ByteSpan bytes) {
  const auto place = image_.begin() + static_cast<std::ptrdiff_t>(offset);
  const auto [first, in_image] = std::mismatch(bytes.begin(), bytes.end(), place);
  if (first == bytes.end()) return true;
  auto last = bytes.end();
  while (*(last - 1) == *(place + (last - 1 - bytes.begin()))) --last;
  const uint64_t from = offset + static_cast<uint64_t>(first - bytes.begin());
  const uint64_t to = offset + static_cast<uint64_t>(last - bytes.begin());
  HF_ASSERT(from < to && to <= image_.size());

  if (held_from_ != held_to_) {
    const uint64_t joined_from = std::min(from, held_from_), joined_to = std::max(to, held_to_);
    const bool near = from <= held_to_ + kGapMax && held_from_ <= to + kGapMax;
    if (!near || joined_to - joined_from > kHeldBytesMax) {
      append_held();
      return false;
    }
  }
  std::copy(first, last, image_.begin() + static_cast<std::ptrdiff_t>(from));
  if (held_from_ == held_to_) {
    held_from_ = from;
    held_to_ = to;
    wait(kHoldUs);
  } else {
    held_from_ = std::min(from, held_from_);
    held_to_ = std::max(to, held_to_);
  }
  if (scratch_ != nullptr) {
    scratch_->keep(held_from_, ByteSpan(image_).subspan(held_from_, held_to_ - held_from_));
  }
  return true;
}

void FlashVolume::append_held() {
  if (held_from_ == held_to_ || appending_) return;
  const ByteSpan bytes = ByteSpan(image_).subspan(held_from_, held_to_ - held_from_);
  // If it is not taken, the bytes stay held: until the journal accepts, or for the next keeper.
  if (!front_.try_write(volume_, base_ + held_from_, bytes, &appended_)) return wait(kRetryUs);
  held_from_ = held_to_ = 0;
  appending_ = true;
}

void FlashVolume::on_appended(Status status) {
  if (!status.ok()) return;  // the journal has failed: writes wait, the note stays
  appending_ = false;
  if (scratch_ != nullptr) scratch_->clear();
  front_.held_is_appended();
  let_waiting_on();
}

void FlashVolume::on_timer() {
  if (appending_) return;
  if (!waiting_.empty()) return let_waiting_on();
  append_held();
}

void FlashVolume::let_waiting_on() {
  // Taken off first: a request that was applied may already stand in another queue.
  RequestQueue again;
  while (Request* request = waiting_.pop()) {
    if (again.empty() && !appending_ && apply(*request)) continue;
    again.push(*request);
  }
  waiting_ = again;
  if (!waiting_.empty() && !appending_) wait(kRetryUs);
}

void FlashVolume::finish_later(Request& request) {
  finished_.push(request);
  if (!queued()) front_.scheduler().defer(*this);
}

void FlashVolume::run() {
  RequestQueue finished = std::exchange(finished_, {});
  while (Request* request = finished.pop()) request->on_done({});
}

}  // namespace hf::volume
