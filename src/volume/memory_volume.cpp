#include "volume/memory_volume.h"

#include <algorithm>

namespace hf::volume {

void MemoryVolume::submit(Request& request) {
  check(request);
  MutableByteSpan range = MutableByteSpan(bytes_).subspan(request.offset, request.length);
  switch (request.operation) {
    case Operation::kRead:
      std::ranges::copy(range, request.data);
      break;
    case Operation::kWrite:
      std::ranges::copy(request.span(), range.begin());
      break;
    case Operation::kTrim:
    case Operation::kWriteZeroes:
      std::ranges::fill(range, std::byte{0});
      break;
    case Operation::kFlush:
      break;
  }
  done_.push(request);
  if (!queued()) scheduler_.defer(*this);
}

void MemoryVolume::run() {
  RequestQueue batch = std::exchange(done_, {});
  while (Request* request = batch.pop()) request->on_done({});
}

}  // namespace hf::volume
