// Frames from a stranger: whatever decodes must encode to the same bytes.
#include "base/fuzz_input.h"
#include "replication/wire.h"

using namespace hf;
using namespace hf::replication;

namespace {

Bytes encode_again(const Frame& frame) {
  switch (frame.type) {
    case FrameType::kHello: {
      const auto body = decode_hello(frame.body);
      return body.ok() ? encode(frame.vm, *body) : Bytes();
    }
    case FrameType::kAnswer: {
      const auto body = decode_answer(frame.body);
      return body.ok() ? encode(frame.vm, *body) : Bytes();
    }
    case FrameType::kAuth: {
      const auto body = decode_auth(frame.body);
      return body.ok() ? encode(frame.vm, *body) : Bytes();
    }
    case FrameType::kBegin: {
      const auto body = decode_begin(frame.body);
      return body.ok() ? encode(frame.vm, *body) : Bytes();
    }
    case FrameType::kRecords: {
      const auto body = decode_records(frame.body);
      return body.ok() ? encode(frame.vm, *body) : Bytes();
    }
    case FrameType::kAck: {
      const auto body = decode_ack(frame.body);
      return body.ok() ? encode(frame.vm, *body) : Bytes();
    }
    case FrameType::kStopped: {
      const auto body = decode_ack(frame.body);
      return body.ok() ? encode_stopped(frame.vm, *body) : Bytes();
    }
    case FrameType::kEpochQuery: {
      const auto body = decode_epoch_info(frame.body);
      return body.ok() ? encode_epoch_query(frame.vm, *body) : Bytes();
    }
    case FrameType::kEpochReply: {
      const auto body = decode_epoch_info(frame.body);
      return body.ok() ? encode_epoch_reply(frame.vm, *body) : Bytes();
    }
    case FrameType::kStop: {
      const auto body = decode_stop(frame.body);
      return body.ok() ? encode_stop(frame.vm, *body) : Bytes();
    }
    case FrameType::kSeed: {
      const auto body = decode_seed_frame(frame.body);
      if (!body.ok()) return {};
      const Bytes once = encode(frame.vm, *body);
      // Nobody's signature: it must be refused, not believed and not fallen over.
      HF_ASSERT(!journal::decode_seed(body->description, frame.vm, {}).ok());
      return once;
    }
    case FrameType::kSeedBytes: {
      const auto body = decode_seed_bytes(frame.body);
      return body.ok() ? encode(frame.vm, *body) : Bytes();
    }
    case FrameType::kSeedAck: {
      const auto body = decode_seed_ack(frame.body);
      return body.ok() ? encode(frame.vm, *body) : Bytes();
    }
    case FrameType::kError: {
      // Control characters are replaced on the way in: the second round must stand still.
      const auto body = decode_error(frame.body);
      if (!body.ok()) return {};
      const Bytes once = encode(frame.vm, *body);
      const auto again = decode_error(ByteSpan(once).subspan(kFrameHeaderSize));
      HF_ASSERT(again.ok() && *again == *body);
      return {};
    }
  }
  return {};
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  ByteSpan left = hf::fuzz_input(data, size);
  FrameReader reader;
  while (!left.empty()) {
    const size_t part = std::min(left.size(), FrameReader::kPushMax);
    reader.push(left.first(part));
    left = left.subspan(part);
    for (;;) {
      auto frame = reader.next();
      if (!frame.ok()) return 0;
      if (!frame->has_value()) break;
      const Bytes again = encode_again(**frame);
      if (again.empty()) continue;
      HF_ASSERT(std::ranges::equal(ByteSpan(again).subspan(kFrameHeaderSize), (*frame)->body));
    }
  }
  return 0;
}
