// Volume: what a front end (NBD now, vhost-user-blk later) reads from and writes to.
//
// One thread, the event loop's. submit() returns at once; the request's on_done() comes later, from
// the loop, never from inside submit(). The request and its data belong to the volume until then.
//
// Order: a write that is submitted after another's completion comes after it, on this and any other
// volume of the same VM. Overlapping requests in flight together take effect in the order
// submitted.
//
// Durability: a write is durable when a flush that was submitted after its completion has
// completed, or at once with `fua`. Trimmed ranges read as zeroes.
//
// A volume that cannot go on for now (full disk, failed storage) keeps requests waiting: an error
// would reach the guest's file system, a wait does not. Errors are for what will never succeed.
#pragma once

#include "base/bytes.h"
#include "base/result.h"

namespace hf::volume {

enum class Operation : uint8_t { kRead, kWrite, kFlush, kTrim, kWriteZeroes };

class Request {
 public:
  virtual void on_done(Status status) = 0;

  Operation operation = Operation::kRead;
  bool fua = false;           // durable before it completes; not for reads and flushes
  bool request_end = true;    // the last part of what the guest sees as one request
  uint64_t offset = 0;        // bytes
  uint64_t length = 0;        // bytes; 0 for a flush
  std::byte* data = nullptr;  // read: filled; write: taken; else null

  MutableByteSpan span() { return {data, static_cast<size_t>(length)}; }
  ByteSpan span() const { return {data, static_cast<size_t>(length)}; }

 protected:
  Request() = default;
  ~Request() = default;
  Request(const Request&) = delete;
  Request& operator=(const Request&) = delete;

 private:
  friend class RequestQueue;
  Request* next_ = nullptr;
};

// First in, first out; for volumes to keep requests in.
class RequestQueue {
 public:
  bool empty() const { return head_ == nullptr; }
  Request* front() { return head_; }
  void push(Request& request) {
    request.next_ = nullptr;
    (tail_ == nullptr ? head_ : tail_->next_) = &request;
    tail_ = &request;
  }
  Request* pop() {
    Request* request = head_;
    if (request == nullptr) return nullptr;
    head_ = request->next_;
    if (head_ == nullptr) tail_ = nullptr;
    return request;
  }

 private:
  Request* head_ = nullptr;
  Request* tail_ = nullptr;
};

// The most a single read or write may carry; front ends split what is longer.
inline constexpr uint64_t kRequestDataMax = uint64_t{256} << 10;

class Volume {
 public:
  virtual ~Volume() = default;
  virtual uint64_t size_bytes() const = 0;
  // Offsets and lengths are multiples of it: a power of two, at most 512 unless the device says
  // more.
  virtual uint32_t block_bytes() const = 0;
  // The range is inside the volume and aligned, data at most kRequestDataMax (asserted).
  virtual void submit(Request& request) = 0;

 protected:
  void check(const Request& request) const {
    HF_ASSERT(request.offset <= size_bytes() && request.length <= size_bytes() - request.offset);
    HF_ASSERT((request.offset | request.length) % block_bytes() == 0);
    bool carries = request.operation == Operation::kRead || request.operation == Operation::kWrite;
    HF_ASSERT(!carries || (request.length <= kRequestDataMax && request.data != nullptr));
  }
};

}  // namespace hf::volume
