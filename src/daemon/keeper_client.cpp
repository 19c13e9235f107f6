#include "daemon/keeper_client.h"

#include "sys/bounded_io.h"

namespace hf::daemon {
namespace {
constexpr size_t kReplyMax = size_t{4} << 20;

Result<sys::JsonObject> ask(const std::string& control_socket, const sys::JsonObject& request,
                            std::chrono::milliseconds limit) {
  auto end = std::chrono::steady_clock::now() + limit;
  auto left = [end] {
    return std::max(std::chrono::milliseconds(0),
                    std::chrono::duration_cast<std::chrono::milliseconds>(
                        end - std::chrono::steady_clock::now()));
  };
  sys::UniqueFd keeper = TRY(sys::connect_unix_within(control_socket, left()));
  TRY(sys::send_all(keeper.get(), as_bytes(sys::to_text(request) + "\n"), left()));
  std::string line;
  while (line.find('\n') == std::string::npos) {
    std::byte buffer[4096];
    size_t got = TRY(sys::receive_some(keeper.get(), buffer, left()));
    if (got == 0)
      return Error{.code = ErrorCode::kUnavailable,
                   .cause = "the keeper closed its control socket"};
    line += as_text(ByteSpan(buffer, got));
    if (line.size() > kReplyMax)
      return Error{.code = ErrorCode::kLimit, .cause = "the keeper's answer is too long"};
  }
  sys::JsonObject reply = TRY(sys::parse_json_object(
      std::string_view(line).substr(0, line.find('\n')), {.bytes_max = kReplyMax}));
  if (TRY(sys::get_bool_or(reply, "ok", true))) return reply;
  return sys::error_from_json(*TRY(sys::get_object(reply, "error")));
}

}  // namespace

Result<sys::JsonObject> ask_keeper(const std::string& control_socket,
                                   const sys::JsonObject& request,
                                   std::chrono::milliseconds limit) {
  Result<sys::JsonObject> reply = ask(control_socket, request, limit);
  if (reply.ok()) return reply;
  return std::move(reply)
      .error()
      .with_effect("what the VM's keeper does is not known now")
      .with_mend("ask again in a moment: as a rule it is being restarted");
}

}  // namespace hf::daemon
