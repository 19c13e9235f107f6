// Frames from a stranger, and what is in them: whatever decodes must encode to the same bytes.
#include "base/fuzz_input.h"
#include "peer/frame.h"
#include "peer/link_protocol.h"

using namespace hf;
using namespace hf::peer;

namespace {

void check(const Frame& frame) {
  const Bytes again =
      encode_frame(frame.header.type, frame.header.id, frame.body, frame.header.flags);
  HF_ASSERT(std::ranges::equal(ByteSpan(again).subspan(kFrameHeaderSize), frame.body));
  if (const auto ask = decode_ask(frame.body); ask.ok()) {
    HF_ASSERT(ask->total <= kRequestMax && ask->part.size() <= ask->total);
  }
  if (const auto answer = decode_answer(frame.body); answer.ok()) {
    HF_ASSERT(answer->total <= kAnswerMax && answer->part.size() <= answer->total);
  }
  const ErrorBody error = decode_error_body(frame.body);
  const Bytes written = encode_error_body(error);
  HF_ASSERT(written.size() <= kErrorBodyMax);
  // Texts are cleaned on the way in: the second round stands still.
  HF_ASSERT(decode_error_body(written).error.cause == error.error.cause);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  ByteSpan left = hf::fuzz_input(data, size);
  if (const auto message = decode_link_message(left); message.ok()) {
    static_cast<void>(decode_body<Configure>(message->body));
    static_cast<void>(decode_body<PeerRecord>(message->body));
    static_cast<void>(decode_body<PeerStateRecord>(message->body));
    static_cast<void>(decode_body<PairUp>(message->body));
    static_cast<void>(decode_body<PairDial>(message->body));
    static_cast<void>(decode_open_body(message->body));
  }
  for (;;) {
    const auto frame = first_frame(left);
    if (!frame.ok() || !frame->has_value()) return 0;
    check(**frame);
    left = left.subspan(kFrameHeaderSize + (*frame)->body.size());
  }
}
