#include "hypervisor/guest_agent.h"

#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <random>
#include <thread>

#include "base/base64.h"
#include "sys/bounded_io.h"

namespace hf::hypervisor {
namespace {

using std::chrono::milliseconds;

constexpr char kSentinel = '\xff';            // invalid UTF-8: resets a JSON parser at either end
constexpr size_t kLineMax = size_t{4} << 20;  // of one answer
constexpr size_t kReadChunk = size_t{48} << 10;
constexpr milliseconds kRunPoll{50};

milliseconds left_until(std::chrono::steady_clock::time_point deadline) {
  auto left = std::chrono::ceil<milliseconds>(deadline - std::chrono::steady_clock::now());
  return std::max(left, milliseconds(0));
}

Error no_agent(Error error) {
  if (error.code != ErrorCode::kTimeout && error.code != ErrorCode::kUnavailable &&
      error.code != ErrorCode::kIo && error.code != ErrorCode::kNotFound) {
    return error;
  }
  return {.code = ErrorCode::kUnavailable,
          .cause = "no guest agent answers in the VM (" + error.cause + ")",
          .effect = "nothing was asked of the guest",
          .mend = "install qemu-guest-agent in the guest, or wait until it has booted"};
}

Error odd_answer(std::string_view command) {
  return {.code = ErrorCode::kCorrupt,
          .cause = "the guest agent's answer to " + std::string(command) + " is not of its form"};
}

Result<std::string> decoded_text(const sys::JsonObject& object, std::string_view name) {
  std::string text = TRY(sys::get_string_or(object, name, ""));
  Bytes raw = TRY(base64_decode(text));
  raw.resize(std::min(raw.size(), kGuestOutputMax));
  return std::string(as_text(raw));
}

}  // namespace

GuestAgent::GuestAgent(std::string socket_path, Millis answer_limit)
    : path_(std::move(socket_path)), limit_(answer_limit) {}

void GuestAgent::cancel() {
  std::lock_guard lock(mutex_);
  cancelled_ = true;
  if (socket_) ::shutdown(socket_.get(), SHUT_RDWR);
}

void GuestAgent::disconnect() {
  {
    std::lock_guard lock(mutex_);
    socket_.reset();
  }
  buffer_.clear();
}

// Up to and without the next line feed.
Result<std::string> GuestAgent::read_line(Deadline deadline) {
  while (true) {
    size_t end = buffer_.find('\n');
    if (end != std::string::npos) {
      std::string line = buffer_.substr(0, end);
      buffer_.erase(0, end + 1);
      return line;
    }
    if (buffer_.size() > kLineMax) {
      return Error{.code = ErrorCode::kLimit, .cause = "an answer longer than 4 MiB"};
    }
    std::array<std::byte, 16384> chunk{};
    size_t got = TRY(sys::receive_some(socket_.get(), chunk, left_until(deadline)));
    if (got == 0) return Error{.code = ErrorCode::kUnavailable, .cause = "QEMU closed the port"};
    buffer_ += as_text(ByteSpan(chunk).first(got));
  }
}

Status GuestAgent::connect(Deadline deadline) {
  if (socket_) return {};
  buffer_.clear();
  sys::UniqueFd connected = TRY(sys::connect_unix_within(path_, left_until(deadline)));
  {
    std::lock_guard lock(mutex_);
    if (cancelled_) return Error{.code = ErrorCode::kUnavailable, .cause = "nobody waits for it"};
    socket_ = std::move(connected);
  }
  // A number that no earlier client used; the agent takes 53 bits safely.
  std::random_device random;
  uint64_t id = (uint64_t{random()} << 20 | random() >> 12) & ((uint64_t{1} << 52) - 1);
  sys::JsonObject request{{"execute", "guest-sync-delimited"}, {"arguments", {{"id", id}}}};
  std::string text = kSentinel + sys::to_text(request) + "\n";
  TRY(sys::send_all(socket_.get(), as_bytes(text), left_until(deadline)));
  size_t passed = 0;
  while (true) {
    std::string line = TRY(read_line(deadline));
    passed += line.size() + 1;
    if (passed > kLineMax) return Error{.code = ErrorCode::kLimit, .cause = "endless old answers"};
    size_t at = line.rfind(kSentinel);
    if (at == std::string::npos) continue;  // what an earlier client did not read
    Result<sys::JsonObject> answer = sys::parse_json_object(line.substr(at + 1));
    if (!answer.ok()) continue;
    Result<uint64_t> echoed = sys::get_u64(*answer, "return");
    if (echoed.ok() && *echoed == id) return {};
  }
}

Result<sys::JsonValue> GuestAgent::ask(const std::string& command, const sys::JsonObject& arguments,
                                       Deadline deadline) {
  sys::JsonObject request{{"execute", command}};
  if (!arguments.empty()) request["arguments"] = arguments;
  std::string text = sys::to_text(request) + "\n";
  TRY(sys::send_all(socket_.get(), as_bytes(text), left_until(deadline)));
  std::string line = TRY(read_line(deadline));
  sys::JsonObject answer =
      TRY(sys::parse_json_object(line, {.bytes_max = kLineMax, .depth_max = 16}));
  if (Result<const sys::JsonObject*> failure = sys::get_object(answer, "error"); failure.ok()) {
    return Error{.code = ErrorCode::kConflict,
                 .cause = "the guest agent refused " + command + ": " +
                          TRY(sys::get_string_or(**failure, "desc", "no reason given")),
                 .effect = "nothing was done in the guest",
                 .mend = "look at the guest agent's configuration in the guest"};
  }
  const sys::JsonValue* result = answer.if_contains("return");
  if (result == nullptr) return odd_answer(command);
  return *result;
}

Result<sys::JsonValue> GuestAgent::execute(const std::string& command,
                                           const sys::JsonObject& arguments) {
  return execute_until(command, arguments, std::chrono::steady_clock::now() + limit_);
}

Result<sys::JsonValue> GuestAgent::execute_until(const std::string& command,
                                                 const sys::JsonObject& arguments,
                                                 Deadline deadline) {
  if (Status connected = connect(deadline); !connected.ok()) {
    disconnect();
    return no_agent(std::move(connected).error());
  }
  Result<sys::JsonValue> result = ask(command, arguments, deadline);
  // A refusal is an answer; after anything else the stream is not where we think it is.
  if (!result.ok() && result.error().code != ErrorCode::kConflict) {
    disconnect();
    return no_agent(std::move(result).error());
  }
  return result;
}

Status GuestAgent::ping() {
  TRY(execute("guest-ping"));
  return {};
}

Result<Bytes> GuestAgent::read_pieces(const std::string& path, const sys::JsonValue& handle,
                                      size_t bytes_max, Deadline end) {
  Bytes bytes;
  while (true) {
    sys::JsonValue answer =
        TRY(execute_until("guest-file-read", {{"handle", handle}, {"count", kReadChunk}},
                          std::min(end, std::chrono::steady_clock::now() + limit_)));
    if (!answer.is_object()) return odd_answer("guest-file-read");
    Bytes chunk = TRY(base64_decode(TRY(sys::get_string(answer.get_object(), "buf-b64"))));
    if (chunk.size() > bytes_max - bytes.size()) {
      return Error{
          .code = ErrorCode::kLimit,
          .cause = path + " in the guest is longer than " + std::to_string(bytes_max) + " bytes",
          .effect = "it was not read",
          .mend = "look at the file in the guest"};
    }
    bytes.insert(bytes.end(), chunk.begin(), chunk.end());
    // An agent that neither gives nor ends would hold us for ever.
    if (TRY(sys::get_bool(answer.get_object(), "eof")) || chunk.empty()) return bytes;
    // And one that gives a byte at a time for weeks.
    if (left_until(end) == Millis(0)) {
      return Error{.code = ErrorCode::kTimeout, .cause = "it came too slowly"};
    }
  }
}

Result<Bytes> GuestAgent::read_file(const std::string& path, size_t bytes_max, Millis limit) {
  const Deadline end = std::chrono::steady_clock::now() + limit;
  sys::JsonValue handle = TRY(execute("guest-file-open", {{"path", path}, {"mode", "r"}}));
  if (!handle.is_number()) return odd_answer("guest-file-open");
  Result<Bytes> bytes = read_pieces(path, handle, bytes_max, end);
  if (socket_) static_cast<void>(execute("guest-file-close", {{"handle", handle}}));
  if (bytes.ok() || bytes.error().code == ErrorCode::kLimit || left_until(end) > Millis(0)) {
    return bytes;
  }
  return Error{.code = ErrorCode::kTimeout,
               .cause = "the guest agent did not give " + path + " within " +
                        std::to_string(limit.count()) + " ms",
               .effect = "it was not read",
               .mend = "look at the guest agent in the guest"};
}

Result<GuestRun> GuestAgent::run(const std::string& program,
                                 const std::vector<std::string>& arguments, Millis limit,
                                 ByteSpan input) {
  Deadline deadline = std::chrono::steady_clock::now() + limit;
  sys::JsonArray words;
  for (const std::string& word : arguments) words.emplace_back(word);
  sys::JsonObject wanted{{"path", program}, {"arg", std::move(words)}, {"capture-output", true}};
  if (!input.empty()) wanted["input-data"] = base64_encode(input);
  sys::JsonValue started = TRY(execute("guest-exec", wanted));
  if (!started.is_object()) return odd_answer("guest-exec");
  int64_t pid = TRY(sys::get_i64(started.get_object(), "pid"));
  while (true) {
    sys::JsonValue answer = TRY(execute("guest-exec-status", {{"pid", pid}}));
    if (!answer.is_object()) return odd_answer("guest-exec-status");
    const sys::JsonObject& status = answer.get_object();
    if (TRY(sys::get_bool(status, "exited"))) {
      GuestRun run;
      run.exit_status = static_cast<int>(TRY(sys::get_u64_or(status, "exitcode", 0)) & 0xff);
      run.signal = static_cast<int>(TRY(sys::get_u64_or(status, "signal", 0)) & 0xff);
      run.output = TRY(decoded_text(status, "out-data"));
      run.errors = TRY(decoded_text(status, "err-data"));
      run.truncated = TRY(sys::get_bool_or(status, "out-truncated", false)) ||
                      TRY(sys::get_bool_or(status, "err-truncated", false));
      return run;
    }
    if (left_until(deadline) == Millis(0)) {
      return Error{.code = ErrorCode::kTimeout,
                   .cause = program + " did not end in the guest within " +
                            std::to_string(limit.count()) + " ms",
                   .effect = "it may still run there",
                   .mend = "look at it in the guest"};
    }
    std::this_thread::sleep_for(std::min(kRunPoll, left_until(deadline)));
  }
}

}  // namespace hf::hypervisor
