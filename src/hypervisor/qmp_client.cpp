#include "hypervisor/qmp_client.h"

#include <algorithm>
#include <array>

#include "sys/bounded_io.h"

namespace hf::hypervisor {
namespace {

using std::chrono::milliseconds;

constexpr size_t kMessageMax = size_t{4} << 20;  // bytes; query-* answers of large VMs

milliseconds left_until(std::chrono::steady_clock::time_point deadline) {
  auto left = std::chrono::ceil<milliseconds>(deadline - std::chrono::steady_clock::now());
  return std::max(left, milliseconds(0));
}

Error shaped(Error error) {
  if (error.code == ErrorCode::kTimeout) {
    error.cause = "QEMU's monitor did not answer in time";
    error.effect = "the VM may still run: the monitor waits while a disk's server is away";
    error.mend = "try again; holdfast vm show tells how the VM is";
  }
  return error;
}

Result<std::string> text_member(const sys::JsonObject& object, std::string_view name) {
  return sys::get_string_or(object, name, "");
}

}  // namespace

QmpClient::QmpClient(std::string socket_path, milliseconds call_limit)
    : path_(std::move(socket_path)), limit_(call_limit) {}

void QmpClient::disconnect() {
  socket_.reset();
  buffer_.clear();
}

Result<sys::JsonObject> QmpClient::read_message(Deadline deadline) {
  while (true) {
    size_t end = buffer_.find('\n');
    if (end != std::string::npos) {
      std::string line = buffer_.substr(0, end);
      buffer_.erase(0, end + 1);
      return sys::parse_json_object(line, {.bytes_max = kMessageMax, .depth_max = 32});
    }
    if (buffer_.size() > kMessageMax) {
      return Error{.code = ErrorCode::kLimit, .cause = "a QMP message longer than 4 MiB"};
    }
    std::array<std::byte, 16384> chunk{};
    size_t got = TRY(sys::receive_some(socket_.get(), chunk, left_until(deadline)));
    if (got == 0) {
      return Error{.code = ErrorCode::kUnavailable, .cause = "QEMU closed its monitor"};
    }
    buffer_ += as_text(ByteSpan(chunk).first(got));
  }
}

Result<sys::JsonValue> QmpClient::call(const std::string& command, const sys::JsonObject& arguments,
                                       Deadline deadline) {
  sys::JsonObject request;
  uint64_t id = next_id_++;
  request["execute"] = command;
  if (!arguments.empty()) request["arguments"] = arguments;
  request["id"] = id;
  std::string text = sys::to_text(request) + "\n";
  TRY(sys::send_all(socket_.get(), as_bytes(text), left_until(deadline)));
  while (true) {
    sys::JsonObject message = TRY(read_message(deadline));
    auto answered = sys::get_u64(message, "id");
    if (!answered.ok() || *answered != id) continue;  // an event
    if (auto failure = sys::get_object(message, "error"); failure.ok()) {
      return Error{.code = ErrorCode::kConflict,
                   .cause = "QEMU refused " + command + ": " + TRY(text_member(**failure, "desc"))};
    }
    const sys::JsonValue* result = message.if_contains("return");
    return result == nullptr ? sys::JsonValue() : *result;
  }
}

Status QmpClient::connect(Deadline deadline) {
  if (socket_) return {};
  buffer_.clear();
  socket_ = TRY(sys::connect_unix_within(path_, left_until(deadline)));
  sys::JsonObject greeting = TRY(read_message(deadline));
  if (!sys::has_member(greeting, "QMP")) {
    return Error{.code = ErrorCode::kCorrupt, .cause = path_ + " is not a QMP monitor"};
  }
  TRY(call("qmp_capabilities", {}, deadline));
  return {};
}

Result<sys::JsonValue> QmpClient::execute(const std::string& command,
                                          const sys::JsonObject& arguments) {
  Deadline deadline = std::chrono::steady_clock::now() + limit_;
  if (Status connected = connect(deadline); !connected.ok()) {
    disconnect();
    return shaped(std::move(connected).error());
  }
  Result<sys::JsonValue> result = call(command, arguments, deadline);
  // A refusal is an answer; after anything else the stream is not where we think it is.
  if (!result.ok() && result.error().code != ErrorCode::kConflict) {
    disconnect();
    return shaped(std::move(result).error());
  }
  return result;
}

Result<std::string> QmpClient::status() {
  sys::JsonValue answer = TRY(execute("query-status"));
  if (!answer.is_object()) {
    return Error{.code = ErrorCode::kCorrupt, .cause = "query-status answered no object"};
  }
  return sys::get_string(answer.get_object(), "status");
}

Status QmpClient::power_button() {
  TRY(execute("system_powerdown"));
  return {};
}

Status QmpClient::quit() {
  TRY(execute("quit"));
  disconnect();
  return {};
}

}  // namespace hf::hypervisor
