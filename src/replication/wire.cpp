#include "replication/wire.h"

#include "base/text.h"
#include "journal/format/wire.h"

namespace hf::replication {

namespace {

using journal::corrupt;

constexpr size_t kLineEndSize = 72;

void put(FieldWriter& to, const journal::LineEnd& end) {
  to.bytes(end.position.incarnation.span());
  to.number(end.position.sequence.value);
  to.bytes(end.chain.span());
}

journal::LineEnd get_line_end(FieldReader& from) {
  journal::LineEnd end;
  end.position.incarnation = from.id<IncarnationId>();
  end.position.sequence = from.counted<Sequence>();
  end.chain = from.id<Digest>();
  return end;
}

// An empty replica's end is zeroes throughout; any other has an incarnation.
bool plausible(const journal::LineEnd& end) {
  if (end == journal::LineEnd{}) return true;
  return end.position.sequence.value > 0 && !end.position.incarnation.is_zero();
}

// A frame with room for its body, and a writer over that.
struct Draft {
  Draft(FrameType type, const VmId& vm, size_t length)
      : bytes(kFrameHeaderSize + length), body(MutableByteSpan(bytes).subspan(kFrameHeaderSize)) {
    HF_ASSERT(length <= kFrameBodyMax);
    encode_frame_header({.type = type, .length = static_cast<uint32_t>(length), .vm = vm},
                        std::span<std::byte, kFrameHeaderSize>(bytes.data(), kFrameHeaderSize));
  }
  Bytes take() {
    HF_ASSERT(kFrameHeaderSize + body.at() == bytes.size());
    return std::move(bytes);
  }
  Bytes bytes;
  FieldWriter body;
};

Status check_numbers(const FieldReader& reader, FrameType type) {
  if (reader.in_range()) return {};
  return corrupt(std::string(to_string(type)) + " frame: " + journal::kOutOfRange);
}

Status check_size(ByteSpan body, size_t size, FrameType type) {
  if (body.size() == size) return {};
  return corrupt(std::string(to_string(type)) + " frame of " + std::to_string(body.size()) +
                 " bytes, expected " + std::to_string(size));
}

Bytes encode_epoch_info(FrameType type, const VmId& vm, const EpochInfo& info) {
  Draft draft(type, vm, kEpochInfoSize);
  draft.body.number(info.epoch.value);
  draft.body.bytes(info.site.span());
  draft.body.number(static_cast<uint8_t>(info.role));
  draft.body.number(static_cast<uint8_t>(info.running));
  draft.body.zeroes(6);
  put(draft.body, info.durable);
  return draft.take();
}

Bytes encode_ack_as(FrameType type, const VmId& vm, const Ack& ack) {
  Draft draft(type, vm, kAckSize);
  put(draft.body, ack.durable);
  draft.body.bytes(ack.mac.span());
  return draft.take();
}

}  // namespace

static_assert(kHelloSize == 8 + 16 + 16 + 32 + 32 + 32);
static_assert(kAnswerSize == 8 + 32 + 32 + 64);
static_assert(kBeginSize == kLineEndSize + 8 + kMacSize);
static_assert(kAckSize == kLineEndSize + kMacSize);
static_assert(kEpochInfoSize == 32 + kLineEndSize);

const char* to_string(FrameType type) {
  switch (type) {
    case FrameType::kHello:
      return "hello";
    case FrameType::kAnswer:
      return "answer";
    case FrameType::kRecords:
      return "records";
    case FrameType::kAck:
      return "ack";
    case FrameType::kError:
      return "error";
    case FrameType::kEpochQuery:
      return "epoch query";
    case FrameType::kEpochReply:
      return "epoch reply";
    case FrameType::kStop:
      return "stop";
    case FrameType::kStopped:
      return "stopped";
    case FrameType::kSeed:
      return "seed";
    case FrameType::kSeedBytes:
      return "seed bytes";
    case FrameType::kSeedAck:
      return "seed ack";
    case FrameType::kAuth:
      return "auth";
    case FrameType::kBegin:
      return "begin";
  }
  return "unknown";
}

const char* to_string(Refusal refusal) {
  switch (refusal) {
    case Refusal::kUnknownVm:
      return "unknown VM";
    case Refusal::kWrongKey:
      return "wrong journal key";
    case Refusal::kStaleEpoch:
      return "stale epoch";
    case Refusal::kDiverged:
      return "diverged";
    case Refusal::kMergedAway:
      return "merged away";
    case Refusal::kBadRecords:
      return "records do not check";
    case Refusal::kProtocol:
      return "protocol error";
    case Refusal::kStorage:
      return "replica storage failed";
    case Refusal::kBusy:
      return "already connected";
    case Refusal::kNotReplica:
      return "not a replica";
    case Refusal::kUnproven:
      return "a site is unproven";
  }
  return "unknown";
}

bool is_final(Refusal refusal) {
  switch (refusal) {
    case Refusal::kUnknownVm:
    case Refusal::kWrongKey:
    case Refusal::kStaleEpoch:
    case Refusal::kDiverged:
    case Refusal::kMergedAway:
    case Refusal::kBadRecords:
    case Refusal::kNotReplica:
      return true;
    case Refusal::kProtocol:
    case Refusal::kStorage:
    case Refusal::kBusy:
    case Refusal::kUnproven:
      return false;
  }
  return true;
}

const char* to_string(SiteRole role) {
  switch (role) {
    case SiteRole::kPrimary:
      return "primary";
    case SiteRole::kReplica:
      return "replica";
    case SiteRole::kSuperseded:
      return "superseded";
  }
  return "unknown";
}

void encode_frame_header(const FrameHeader& header, std::span<std::byte, kFrameHeaderSize> to) {
  HF_ASSERT(header.length <= kFrameBodyMax);
  FieldWriter writer(to);
  writer.number(kFrameMagic);
  writer.number(kFrameVersion);
  writer.number(static_cast<uint8_t>(header.type));
  writer.number(uint8_t{0});
  writer.number(header.length);
  writer.zeroes(4);
  writer.bytes(header.vm.span());
  HF_ASSERT(writer.at() == kFrameHeaderSize);
}

Result<FrameHeader> decode_frame_header(ByteSpan from) {
  if (from.size() < kFrameHeaderSize) return corrupt("frame header cut short");
  FieldReader reader(from.first(kFrameHeaderSize));
  if (reader.number<uint32_t>() != kFrameMagic) return corrupt("not a replication frame");
  const auto version = reader.number<uint16_t>();
  if (version != kFrameVersion) {
    return Error{.code = ErrorCode::kUnsupported,
                 .cause = "the peer speaks replication protocol version " +
                          std::to_string(version) + ", this site version " +
                          std::to_string(kFrameVersion)};
  }
  FrameHeader header;
  const auto type = reader.number<uint8_t>();
  if (type < static_cast<uint8_t>(FrameType::kHello) ||
      type > static_cast<uint8_t>(FrameType::kBegin)) {
    return corrupt("frame of unknown type " + std::to_string(type));
  }
  header.type = static_cast<FrameType>(type);
  if (!reader.zeroes(1)) return corrupt("frame with unknown flags");
  header.length = reader.number<uint32_t>();
  if (header.length > kFrameBodyMax) {
    return corrupt("frame of " + std::to_string(header.length) + " bytes, above the limit");
  }
  if (!reader.zeroes(4)) return corrupt("frame with reserved bytes set");
  header.vm = reader.id<VmId>();
  return header;
}

namespace {
template <size_t N>
void get_array(FieldReader& from, std::array<std::byte, N>& to) {
  std::ranges::copy(from.bytes(N), to.begin());
}
}  // namespace

Bytes encode(const VmId& vm, const Hello& hello) {
  Draft draft(FrameType::kHello, vm, kHelloSize);
  draft.body.number(hello.epoch.value);
  draft.body.bytes(hello.home.span());
  draft.body.bytes(hello.replica.span());
  draft.body.bytes(hello.public_key);
  draft.body.bytes(hello.ephemeral);
  draft.body.bytes(hello.nonce);
  return draft.take();
}

Result<Hello> decode_hello(ByteSpan body) {
  TRY(check_size(body, kHelloSize, FrameType::kHello));
  FieldReader reader(body);
  Hello hello;
  hello.epoch = reader.counted<Epoch>();
  hello.home = reader.id<SiteId>();
  hello.replica = reader.id<SiteId>();
  get_array(reader, hello.public_key);
  get_array(reader, hello.ephemeral);
  get_array(reader, hello.nonce);
  TRY(check_numbers(reader, FrameType::kHello));
  if (hello.epoch.value == 0) return corrupt("hello with epoch 0");
  return hello;
}

Bytes encode(const VmId& vm, const Answer& answer) {
  Draft draft(FrameType::kAnswer, vm, kAnswerSize);
  draft.body.number(answer.epoch.value);
  draft.body.bytes(answer.ephemeral);
  draft.body.bytes(answer.nonce);
  draft.body.bytes(answer.signature);
  return draft.take();
}

Result<Answer> decode_answer(ByteSpan body) {
  TRY(check_size(body, kAnswerSize, FrameType::kAnswer));
  FieldReader reader(body);
  Answer answer;
  answer.epoch = reader.counted<Epoch>();
  get_array(reader, answer.ephemeral);
  get_array(reader, answer.nonce);
  get_array(reader, answer.signature);
  TRY(check_numbers(reader, FrameType::kAnswer));
  if (answer.epoch.value == 0) return corrupt("answer with epoch 0");
  return answer;
}

Bytes encode(const VmId& vm, const Auth& auth) {
  Draft draft(FrameType::kAuth, vm, kAuthSize);
  draft.body.bytes(auth.signature);
  return draft.take();
}

Result<Auth> decode_auth(ByteSpan body) {
  TRY(check_size(body, kAuthSize, FrameType::kAuth));
  FieldReader reader(body);
  Auth auth;
  get_array(reader, auth.signature);
  return auth;
}

Bytes encode(const VmId& vm, const Begin& begin) {
  Draft draft(FrameType::kBegin, vm, kBeginSize);
  put(draft.body, begin.durable);
  draft.body.number(begin.window_bytes);
  draft.body.zeroes(4);
  draft.body.bytes(begin.mac.span());
  return draft.take();
}

Result<Begin> decode_begin(ByteSpan body) {
  TRY(check_size(body, kBeginSize, FrameType::kBegin));
  FieldReader reader(body);
  Begin begin;
  begin.durable = get_line_end(reader);
  begin.window_bytes = reader.number<uint32_t>();
  if (!reader.zeroes(4)) return corrupt("begin frame with reserved bytes set");
  begin.mac = reader.id<Mac>();
  TRY(check_numbers(reader, FrameType::kBegin));
  if (!plausible(begin.durable)) return corrupt("begin frame with half a position");
  if (begin.window_bytes < journal::kRecordSizeMax) {
    return corrupt("begin frame with a window smaller than a record");
  }
  return begin;
}

Bytes encode(const VmId& vm, const Records& records) {
  HF_ASSERT(records.records.size() <= kRecordsBytesMax);
  Draft draft(FrameType::kRecords, vm, kRecordsPrefixSize + records.records.size());
  draft.body.number(records.home_durable.value);
  draft.body.zeroes(8);
  draft.body.bytes(records.mac.span());
  draft.body.bytes(records.records);
  return draft.take();
}

Result<Records> decode_records(ByteSpan body) {
  if (body.size() < kRecordsPrefixSize) return corrupt("records frame cut short");
  FieldReader reader(body);
  Records records;
  records.home_durable = reader.counted<Sequence>();
  TRY(check_numbers(reader, FrameType::kRecords));
  if (!reader.zeroes(8)) return corrupt("records frame with reserved bytes set");
  records.mac = reader.id<Mac>();
  records.records = reader.bytes(reader.left());
  if (records.records.empty() || records.records.size() % journal::kRecordAlignment != 0) {
    return corrupt("records frame that holds no whole records");
  }
  return records;
}

Bytes encode(const VmId& vm, const Ack& ack) { return encode_ack_as(FrameType::kAck, vm, ack); }
Bytes encode_stopped(const VmId& vm, const Ack& ack) {
  return encode_ack_as(FrameType::kStopped, vm, ack);
}

Result<Ack> decode_ack(ByteSpan body) {
  TRY(check_size(body, kAckSize, FrameType::kAck));
  FieldReader reader(body);
  Ack ack;
  ack.durable = get_line_end(reader);
  ack.mac = reader.id<Mac>();
  TRY(check_numbers(reader, FrameType::kAck));
  if (!plausible(ack.durable)) return corrupt("ack with half a position");
  return ack;
}

namespace {
// It ends up on an operator's terminal. Both ends make it so, or a MAC over the text would not
// verify.
std::string printable(std::string_view text) { return clean_text(text, kErrorTextMax); }
}  // namespace

Bytes encode(const VmId& vm, const ErrorFrame& error) {
  const std::string cause = printable(error.cause), effect = printable(error.effect),
                    mend = printable(error.mend);
  Draft draft(FrameType::kError, vm, kErrorPrefixSize + cause.size() + effect.size() + mend.size());
  draft.body.number(static_cast<uint32_t>(error.refusal));
  draft.body.number(error.epoch.value);
  for (const std::string_view text : {cause, effect, mend}) {
    draft.body.number(static_cast<uint32_t>(text.size()));
  }
  draft.body.bytes(error.mac.span());
  for (const std::string_view text : {cause, effect, mend}) draft.body.bytes(as_bytes(text));
  return draft.take();
}

Result<ErrorFrame> decode_error(ByteSpan body) {
  if (body.size() < kErrorPrefixSize) return corrupt("error frame cut short");
  FieldReader reader(body);
  ErrorFrame error;
  const auto refusal = reader.number<uint32_t>();
  if (refusal < static_cast<uint32_t>(Refusal::kUnknownVm) ||
      refusal > static_cast<uint32_t>(Refusal::kUnproven)) {
    return corrupt("error frame of unknown kind " + std::to_string(refusal));
  }
  error.refusal = static_cast<Refusal>(refusal);
  error.epoch = reader.counted<Epoch>();
  TRY(check_numbers(reader, FrameType::kError));
  std::array<uint32_t, 3> sizes{};
  for (uint32_t& size : sizes) {
    size = reader.number<uint32_t>();
    if (size > kErrorTextMax) return corrupt("error frame with a text above the limit");
  }
  error.mac = reader.id<Mac>();
  const std::array<std::string*, 3> texts{&error.cause, &error.effect, &error.mend};
  for (size_t i = 0; i < sizes.size(); i++) {
    if (reader.left() < sizes[i]) return corrupt("error frame cut short");
    *texts[i] = printable(as_text(reader.bytes(sizes[i])));
  }
  if (reader.left() != 0) return corrupt("error frame with bytes left over");
  return error;
}

Bytes encode_epoch_query(const VmId& vm, const EpochInfo& info) {
  return encode_epoch_info(FrameType::kEpochQuery, vm, info);
}
Bytes encode_epoch_reply(const VmId& vm, const EpochInfo& info) {
  return encode_epoch_info(FrameType::kEpochReply, vm, info);
}

Result<EpochInfo> decode_epoch_info(ByteSpan body) {
  TRY(check_size(body, kEpochInfoSize, FrameType::kEpochReply));
  FieldReader reader(body);
  EpochInfo info;
  info.epoch = reader.counted<Epoch>();
  info.site = reader.id<SiteId>();
  const auto role = reader.number<uint8_t>();
  if (role < static_cast<uint8_t>(SiteRole::kPrimary) ||
      role > static_cast<uint8_t>(SiteRole::kSuperseded)) {
    return corrupt("epoch frame with unknown role " + std::to_string(role));
  }
  info.role = static_cast<SiteRole>(role);
  const auto running = reader.number<uint8_t>();
  if (running > 1 || !reader.zeroes(6)) return corrupt("epoch frame with reserved bytes set");
  info.running = running == 1;
  info.durable = get_line_end(reader);
  TRY(check_numbers(reader, FrameType::kEpochReply));
  if (!plausible(info.durable)) return corrupt("epoch frame with half a position");
  return info;
}

Bytes encode_stop(const VmId& vm, const Stop& stop) {
  Draft draft(FrameType::kStop, vm, kStopSize);
  draft.body.number(stop.epoch.value);
  draft.body.bytes(stop.site.span());
  return draft.take();
}

Result<Stop> decode_stop(ByteSpan body) {
  TRY(check_size(body, kStopSize, FrameType::kStop));
  FieldReader reader(body);
  Stop stop;
  stop.epoch = reader.counted<Epoch>();
  stop.site = reader.id<SiteId>();
  TRY(check_numbers(reader, FrameType::kStop));
  return stop;
}

Bytes encode(const VmId& vm, const Seed& seed) {
  HF_ASSERT(seed.description.size() <= journal::kSeedDescriptionMax);
  Draft draft(FrameType::kSeed, vm, kSeedPrefixSize + seed.description.size());
  draft.body.bytes(seed.mac.span());
  draft.body.bytes(seed.description);
  return draft.take();
}

Result<Seed> decode_seed_frame(ByteSpan body) {
  if (body.size() <= kSeedPrefixSize ||
      body.size() > kSeedPrefixSize + journal::kSeedDescriptionMax) {
    return corrupt("seed frame of an impossible size");
  }
  FieldReader reader(body);
  Seed seed;
  seed.mac = reader.id<Mac>();
  seed.description = reader.bytes(reader.left());
  return seed;
}

Bytes encode(const VmId& vm, const SeedBytes& seed) {
  HF_ASSERT(!seed.bytes.empty() && seed.bytes.size() <= journal::kSeedReadMax);
  Draft draft(FrameType::kSeedBytes, vm, kSeedBytesPrefixSize + seed.bytes.size());
  draft.body.number(seed.offset);
  draft.body.bytes(seed.mac.span());
  draft.body.bytes(seed.bytes);
  return draft.take();
}

Result<SeedBytes> decode_seed_bytes(ByteSpan body) {
  if (body.size() <= kSeedBytesPrefixSize ||
      body.size() > kSeedBytesPrefixSize + journal::kSeedReadMax) {
    return corrupt("seed bytes frame of an impossible size");
  }
  FieldReader reader(body);
  SeedBytes seed;
  seed.offset = reader.counted();
  seed.mac = reader.id<Mac>();
  TRY(check_numbers(reader, FrameType::kSeedBytes));
  seed.bytes = reader.bytes(reader.left());
  return seed;
}

Bytes encode(const VmId& vm, const SeedAck& ack) {
  Draft draft(FrameType::kSeedAck, vm, kSeedAckSize);
  draft.body.number(ack.taken);
  draft.body.number(ack.total);
  draft.body.number(static_cast<uint8_t>(ack.installed));
  draft.body.zeroes(7);
  draft.body.bytes(ack.mac.span());
  return draft.take();
}

Result<SeedAck> decode_seed_ack(ByteSpan body) {
  TRY(check_size(body, kSeedAckSize, FrameType::kSeedAck));
  FieldReader reader(body);
  SeedAck ack;
  ack.taken = reader.counted();
  ack.total = reader.counted();
  TRY(check_numbers(reader, FrameType::kSeedAck));
  const auto installed = reader.number<uint8_t>();
  if (installed > 1 || !reader.zeroes(7)) return corrupt("seed ack with reserved bytes set");
  ack.installed = installed == 1;
  ack.mac = reader.id<Mac>();
  if (ack.taken > ack.total || (ack.installed && ack.taken < ack.total)) {
    return corrupt("seed ack of more than there is");
  }
  return ack;
}

Result<Frame> decode_frame(ByteSpan bytes) {
  const FrameHeader header = TRY(decode_frame_header(bytes));
  if (bytes.size() - kFrameHeaderSize < header.length) return corrupt("frame cut short");
  return Frame{
      .type = header.type, .vm = header.vm, .body = bytes.subspan(kFrameHeaderSize, header.length)};
}

void FrameReader::push(ByteSpan bytes) {
  HF_ASSERT(bytes.size() <= kPushMax);
  buffer_.erase(buffer_.begin(), buffer_.begin() + static_cast<std::ptrdiff_t>(at_));
  at_ = 0;
  HF_ASSERT(buffer_.size() < kFrameHeaderSize + kFrameBodyMax);
  buffer_.insert(buffer_.end(), bytes.begin(), bytes.end());
}

Result<std::optional<Frame>> FrameReader::next() {
  const ByteSpan left = ByteSpan(buffer_).subspan(at_);
  if (left.size() < kFrameHeaderSize) return std::optional<Frame>();
  const FrameHeader header = TRY(decode_frame_header(left));
  if (left.size() - kFrameHeaderSize < header.length) return std::optional<Frame>();
  at_ += kFrameHeaderSize + header.length;
  return std::optional<Frame>(TRY(decode_frame(left)));
}

}  // namespace hf::replication
