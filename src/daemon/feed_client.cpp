#include "daemon/feed_client.h"

#include "sys/bounded_io.h"

namespace hf::daemon {

using namespace std::chrono_literals;

namespace {

constexpr uint32_t kMagic = 0x44464648;      // "HFFD"
constexpr uint32_t kSeedMagic = 0x53464648;  // "HFFS"
constexpr uint32_t kVersion = 1;
constexpr size_t kRequestSize = 56;
constexpr size_t kReplySize = 32;
constexpr size_t kRecordsMax = size_t{8} << 20;

Status receive_exact(int fd, MutableByteSpan to, std::chrono::steady_clock::time_point end) {
  while (!to.empty()) {
    auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
        end - std::chrono::steady_clock::now());
    size_t got = TRY(sys::receive_some(fd, to, std::max(left, 0ms)));
    if (got == 0)
      return Error{.code = ErrorCode::kUnavailable, .cause = "the keeper closed its feed"};
    to = to.subspan(got);
  }
  return {};
}

}  // namespace

Result<FeedClient> FeedClient::connect(const std::string& socket_path) {
  return FeedClient(TRY(sys::connect_unix_within(socket_path, 500ms)));
}

Status FeedClient::ask(const Position& after, size_t bytes_max, uint32_t wait_ms) {
  std::byte raw[kRequestSize] = {};
  store_le<uint32_t>(raw, kMagic);
  store_le<uint32_t>(raw + 4, kVersion);
  std::memcpy(raw + 8, after.incarnation.bytes.data(), 32);
  store_le<uint64_t>(raw + 40, after.sequence.value);
  store_le<uint32_t>(raw + 48, static_cast<uint32_t>(std::min(bytes_max, kRecordsMax)));
  store_le<uint32_t>(raw + 52, wait_ms);
  return sys::send_all(socket_.get(), raw, 1s);
}

Status FeedClient::ask_seed() {
  std::byte raw[kRequestSize] = {};
  store_le<uint32_t>(raw, kSeedMagic);
  store_le<uint32_t>(raw + 4, kVersion);
  store_le<uint32_t>(raw + 8, 1);
  return sys::send_all(socket_.get(), raw, 1s);
}

Status FeedClient::ask_seed_bytes(uint64_t base, uint64_t offset, size_t length) {
  std::byte raw[kRequestSize] = {};
  store_le<uint32_t>(raw, kSeedMagic);
  store_le<uint32_t>(raw + 4, kVersion);
  store_le<uint32_t>(raw + 8, 2);
  store_le<uint64_t>(raw + 16, base);
  store_le<uint64_t>(raw + 24, offset);
  store_le<uint32_t>(raw + 32, static_cast<uint32_t>(length));
  return sys::send_all(socket_.get(), raw, 1s);
}

Result<FeedAnswer> FeedClient::answer(std::chrono::milliseconds limit) {
  auto end = std::chrono::steady_clock::now() + limit;
  std::byte raw[kReplySize];
  TRY(receive_exact(socket_.get(), raw, end));
  if (load_le<uint32_t>(raw) != kMagic) {
    return Error{.code = ErrorCode::kCorrupt, .cause = "the keeper's feed sent something else"};
  }
  switch (load_le<uint32_t>(raw + 4)) {
    case 0:
      break;
    case 1:
      return Error{.code = ErrorCode::kConflict,
                   .cause = "the replica's position is not on this VM's line"};
    case 2:
      return Error{.code = ErrorCode::kNotFound,
                   .cause = "the records the replica lacks were merged away"};
    default:
      return Error{.code = ErrorCode::kIo, .cause = "the keeper could not read its journal"};
  }
  uint32_t length = load_le<uint32_t>(raw + 24);
  if (length > kRecordsMax)
    return Error{.code = ErrorCode::kCorrupt, .cause = "the keeper's feed sent too much"};
  FeedAnswer answer{.durable = Sequence(load_le<uint64_t>(raw + 8)),
                    .oldest_time = Micros(load_le<uint64_t>(raw + 16)),
                    .records = Bytes(length)};
  TRY(receive_exact(socket_.get(), answer.records, end));
  return answer;
}

}  // namespace hf::daemon
