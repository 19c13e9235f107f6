#include "keeper_protocol/client.h"

#include "sys/bounded_io.h"

namespace hf::keeper_protocol {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

Result<std::string> read_line(int socket, Clock::time_point end) {
  std::string line;
  for (;;) {
    std::byte buffer[16384];
    const auto left = std::chrono::duration_cast<milliseconds>(end - Clock::now());
    const size_t got = TRY(sys::receive_some(socket, buffer, std::max(left, milliseconds(0))));
    if (got == 0) {
      return Error{.code = ErrorCode::kUnavailable,
                   .cause = "the keeper closed its control socket"};
    }
    const size_t before = line.size();
    line += as_text(ByteSpan(buffer, got));
    if (const size_t at = line.find('\n', before); at != std::string::npos) {
      line.resize(at);
      return line;
    }
    if (line.size() > kAnswerBytesMax) {
      return Error{.code = ErrorCode::kLimit, .cause = "the keeper's answer is too long"};
    }
  }
}

Result<sys::UniqueFd> send_question(const std::string& path, const sys::JsonObject& question,
                                    milliseconds limit) {
  const auto end = Clock::now() + limit;
  const auto left = [end] {
    return std::max(milliseconds(0), std::chrono::duration_cast<milliseconds>(end - Clock::now()));
  };
  sys::UniqueFd keeper = TRY(sys::connect_unix_within(path, left()));
  TRY(sys::send_all(keeper.get(), as_bytes(sys::to_text(question) + "\n"), left()));
  return keeper;
}

Error not_known_now(Error error) {
  return std::move(error)
      .with_effect("what the VM's keeper does is not known now")
      .with_mend("ask again in a moment: as a rule it is being restarted");
}

}  // namespace

Result<sys::UniqueFd> Client::send_json(const sys::JsonObject& question, milliseconds limit) const {
  Result<sys::UniqueFd> sent = send_question(path_, question, limit);
  if (sent.ok()) return sent;
  return not_known_now(std::move(sent).error());
}

Result<sys::JsonObject> Client::take_json(int socket, milliseconds limit) {
  auto taken = [&]() -> Result<sys::JsonObject> {
    return decode_answer(TRY(read_line(socket, Clock::now() + limit)));
  }();
  if (taken.ok()) return taken;
  return not_known_now(std::move(taken).error());
}

Result<sys::JsonObject> Client::ask_json(const sys::JsonObject& question,
                                         milliseconds limit) const {
  const auto end = Clock::now() + limit;
  const sys::UniqueFd keeper = TRY(send_json(question, limit));
  return take_json(
      keeper.get(),
      std::max(milliseconds(0), std::chrono::duration_cast<milliseconds>(end - Clock::now())));
}

}  // namespace hf::keeper_protocol
