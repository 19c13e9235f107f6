// Any byte stream on the control channel: measured and parsed within its bounds, always with
// progress.
#include <algorithm>

#include "base/assert.h"
#include "base/fuzz_input.h"
#include "vtpm/control_protocol.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace hf;
  using namespace hf::vtpm;
  ByteSpan rest = hf::fuzz_input(data, size);
  while (!rest.empty()) {
    const FrameSize frame = measure_frame(rest);
    if (frame.state == FrameState::kInvalid || frame.state == FrameState::kIncomplete) return 0;
    HF_ASSERT(frame.size > 0 && frame.size <= rest.size());
    const Result<ControlRequest> request = parse_frame(rest.first(frame.size));
    if (request.ok() && !request->data.empty()) {
      HF_ASSERT(request->data.data() + request->data.size() == rest.data() + frame.size);
      HF_ASSERT(request->data.size() <= kControlBlobMax);
    }
    rest = rest.subspan(frame.size);
    if (frame.state == FrameState::kLongHashData) {
      rest = rest.subspan(std::min<size_t>(rest.size(), frame.data_size));
    }
  }
  return 0;
}
