#include "launcher/protocol/protocol.h"

#include <algorithm>

namespace hf::launcher {
namespace {

Error bad(std::string cause) {
  return Error{.code = ErrorCode::kInvalidArgument, .cause = std::move(cause)};
}

Status check_unit(std::string_view name) {
  auto allowed = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-';
  };
  if (std::ranges::all_of(name, allowed)) return {};
  return bad("a unit's name has a-z, 0-9 and -");
}

// How many bytes the UTF-8 sequence at the beginning has; 0: it is none.
size_t sequence_length(std::string_view text) {
  auto at = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  unsigned char first = at(0);
  if (first < 0x80) return 1;
  size_t length = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  if (first < 0xc2 || first > 0xf4 || text.size() < length) return 0;
  for (size_t i = 1; i < length; ++i) {
    if ((at(i) & 0xc0) != 0x80) return 0;
  }
  // Too long for what they say, halves of UTF-16, beyond the last character.
  unsigned char second = at(1);
  if ((first == 0xe0 && second < 0xa0) || (first == 0xed && second > 0x9f) ||
      (first == 0xf0 && second < 0x90) || (first == 0xf4 && second > 0x8f)) {
    return 0;
  }
  return length;
}

}  // namespace

Status json_check(const StartRequest& request) {
  TRY(check_unit(request.unit));
  if (request.vm.is_zero()) return bad("the VM's id is zero");
  if ((request.kind == UnitKind::kQemu) != request.machine.has_value()) {
    return bad("a machine belongs to QEMU, and to nothing else");
  }
  bool keepers = !request.sockets.empty() || request.config || !request.fd_names.empty() ||
                 request.restart != RestartPolicy::kNever;
  if (request.kind == UnitKind::kQemu && keepers) {
    return bad("QEMU has no sockets, config, descriptors or restarts of the daemon's choice");
  }
  return {};
}

Status json_check(const StopRequest& request) {
  TRY(check_unit(request.unit));
  if (request.signal != 15 && request.signal != 9) return bad("the signal is 15 or 9");
  if (request.set_aside_vm.has_value() == request.aside.empty())
    return bad("what is set aside has a name");
  if (request.set_aside_vm && request.remove_vm) return bad("it is removed or set aside");
  const auto allowed = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-';
  };
  if (!std::ranges::all_of(request.aside, allowed)) return bad("a name of [a-z0-9-]");
  return {};
}

Status json_check(const Request& request) {
  using Verb = Request::Verb;
  bool fits = request.start.has_value() == (request.verb == Verb::kStart) &&
              request.stop.has_value() == (request.verb == Verb::kStop) &&
              request.fence.has_value() == (request.verb == Verb::kFence) &&
              (!request.status || request.verb == Verb::kStatus);
  if (!fits) return bad("a request has the part that its verb names, and no other");
  return {};
}

Status json_check(const FromLauncher& message) {
  if (message.reply.has_value() == message.event.has_value()) {
    return bad("a message of the launcher is a reply or an event");
  }
  return {};
}

std::string encode(const Request& request) { return sys::encode_json_text(request); }
std::string encode(const Reply& reply) {
  return sys::encode_json_text(FromLauncher{.reply = reply, .event = std::nullopt});
}
std::string encode(const Event& event) {
  return sys::encode_json_text(FromLauncher{.reply = std::nullopt, .event = event});
}

Result<Request> decode_request(std::string_view text) {
  return sys::decode_json<Request>(text, {.bytes_max = kMessageBytesMax});
}

Result<FromLauncher> decode_from_launcher(std::string_view text) {
  return sys::decode_json<FromLauncher>(text, {.bytes_max = kAnswerBytesMax});
}

std::string readable(std::string_view bytes) {
  std::string text;
  text.reserve(bytes.size());
  while (!bytes.empty()) {
    size_t length = sequence_length(bytes);
    if (length == 0) {
      text += '?';
    } else {
      text += bytes.substr(0, length);
    }
    bytes.remove_prefix(std::max<size_t>(1, length));
  }
  return text;
}

}  // namespace hf::launcher
