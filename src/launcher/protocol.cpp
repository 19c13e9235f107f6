#include "launcher/protocol.h"

#include <algorithm>

namespace hf::launcher {
namespace {

using sys::JsonArray;
using sys::JsonObject;

Error bad(std::string cause) {
  return Error{.code = ErrorCode::kInvalidArgument, .cause = std::move(cause)};
}

Result<std::string> unit_name(const JsonObject& object) {
  std::string name = TRY(sys::get_string(object, "unit"));
  auto allowed = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-';
  };
  if (name.empty() || name.size() > kUnitNameMax || !std::ranges::all_of(name, allowed)) {
    return bad("a unit's name has 1 to 80 of a-z, 0-9 and -");
  }
  return name;
}

Result<VmId> vm_id(const JsonObject& object, std::string_view name) {
  std::string hex = TRY(sys::get_string(object, name));
  return TRY_CONTEXT(VmId::parse_hex(hex), name);
}

Result<std::vector<SocketSpec>> decode_sockets(const JsonObject& object) {
  std::vector<SocketSpec> sockets;
  if (!sys::has_member(object, "sockets")) return sockets;
  const JsonArray* array = TRY(sys::get_array(object, "sockets"));
  if (array->size() > kSocketsMax) return bad("more than 32 sockets for one unit");
  for (const auto& value : *array) {
    if (!value.is_object()) return bad("a socket that is not an object");
    const JsonObject& item = value.get_object();
    SocketSpec socket;
    socket.name = TRY(sys::get_string(item, "name"));
    socket.path = TRY(sys::get_string(item, "path"));
    std::string access = TRY(sys::get_string_or(item, "access", "vm"));
    if (access != "vm" && access != "daemon") return bad("a socket's access is vm or daemon");
    socket.access = access == "vm" ? SocketAccess::kVm : SocketAccess::kDaemon;
    sockets.push_back(std::move(socket));
  }
  return sockets;
}

Result<StartRequest> decode_start(const JsonObject& object) {
  StartRequest start;
  start.unit = TRY(unit_name(object));
  std::string kind = TRY(sys::get_string(object, "kind"));
  if (kind != "keeper" && kind != "qemu") return bad("a unit's kind is keeper or qemu");
  start.kind = kind == "keeper" ? UnitKind::kKeeper : UnitKind::kQemu;
  start.vm = TRY(vm_id(object, "vm"));
  uint64_t number = TRY(sys::get_u64(object, "vm_number"));
  if (number > kVmNumberMax) return bad("vm_number is over 20000");
  start.vm_number = static_cast<uint32_t>(number);
  start.argv = TRY(sys::get_strings_or_empty(object, "argv"));
  start.sockets = TRY(decode_sockets(object));
  if (sys::has_member(object, "config")) start.config = *TRY(sys::get_object(object, "config"));
  start.fd_names = TRY(sys::get_strings_or_empty(object, "fd_names"));
  std::string restart = TRY(sys::get_string_or(object, "restart", "never"));
  if (restart != "always" && restart != "never") return bad("restart is always or never");
  start.restart = restart == "always" ? RestartPolicy::kAlways : RestartPolicy::kNever;
  start.host_network = TRY(sys::get_bool_or(object, "host_network", false));
  start.adopt_dir = TRY(sys::get_string_or(object, "adopt_dir", ""));
  return start;
}

Result<StopRequest> decode_stop(const JsonObject& object) {
  StopRequest stop;
  stop.unit = TRY(unit_name(object));
  uint64_t signal = TRY(sys::get_u64_or(object, "signal", 15));
  if (signal != 15 && signal != 9) return bad("the signal is 15 or 9");
  stop.signal = static_cast<int>(signal);
  stop.timeout_ms = TRY(sys::get_u64_or(object, "timeout_ms", 10000));
  if (stop.timeout_ms > 600'000) return bad("timeout_ms is over 600000");
  if (sys::has_member(object, "remove_vm")) stop.remove_vm = TRY(vm_id(object, "remove_vm"));
  return stop;
}

JsonArray strings(const std::vector<std::string>& texts) {
  JsonArray array;
  for (const std::string& text : texts) array.emplace_back(text);
  return array;
}

void put_start(JsonObject& object, const StartRequest& start) {
  object["unit"] = start.unit;
  object["kind"] = start.kind == UnitKind::kKeeper ? "keeper" : "qemu";
  object["vm"] = start.vm.hex();
  object["vm_number"] = start.vm_number;
  object["argv"] = strings(start.argv);
  JsonArray sockets;
  for (const SocketSpec& socket : start.sockets) {
    JsonObject item;
    item["name"] = socket.name;
    item["path"] = socket.path;
    item["access"] = socket.access == SocketAccess::kVm ? "vm" : "daemon";
    sockets.emplace_back(std::move(item));
  }
  object["sockets"] = std::move(sockets);
  if (start.config) object["config"] = *start.config;
  object["fd_names"] = strings(start.fd_names);
  object["restart"] = start.restart == RestartPolicy::kAlways ? "always" : "never";
  object["host_network"] = start.host_network;
  if (!start.adopt_dir.empty()) object["adopt_dir"] = start.adopt_dir;
}

Result<Reply> decode_reply(const JsonObject& object) {
  Reply reply;
  reply.id = TRY(sys::get_u64(object, "id"));
  if (!TRY(sys::get_bool(object, "ok"))) {
    reply.error = sys::error_from_json(*TRY(sys::get_object(object, "error")));
    return reply;
  }
  reply.pid = static_cast<int64_t>(TRY(sys::get_u64_or(object, "pid", 0)));
  if (!sys::has_member(object, "units")) return reply;
  for (const auto& value : *TRY(sys::get_array(object, "units"))) {
    if (!value.is_object()) return bad("a unit that is not an object");
    const JsonObject& item = value.get_object();
    UnitStatus unit;
    unit.unit = TRY(sys::get_string(item, "unit"));
    unit.pid = TRY(sys::get_i64(item, "pid"));
    unit.running = TRY(sys::get_string(item, "state")) == "running";
    unit.exit_status = static_cast<int>(TRY(sys::get_i64(item, "exit_status")));
    unit.signal = static_cast<int>(TRY(sys::get_i64(item, "signal")));
    unit.restarts = TRY(sys::get_u64(item, "restarts"));
    reply.units.push_back(std::move(unit));
  }
  return reply;
}

Result<Event> decode_event(const JsonObject& object) {
  Event event;
  std::string kind = TRY(sys::get_string(object, "event"));
  if (kind != "exited" && kind != "started") return bad("an unknown event " + kind);
  event.kind = kind == "exited" ? Event::Kind::kExited : Event::Kind::kStarted;
  event.unit = TRY(sys::get_string(object, "unit"));
  event.pid = TRY(sys::get_i64(object, "pid"));
  if (event.kind == Event::Kind::kStarted) return event;
  event.exit_status = static_cast<int>(TRY(sys::get_i64(object, "exit_status")));
  event.signal = static_cast<int>(TRY(sys::get_i64(object, "signal")));
  event.will_restart = TRY(sys::get_bool(object, "will_restart"));
  event.stderr_tail = TRY(sys::get_string(object, "stderr_tail"));
  return event;
}

}  // namespace

std::string encode(const Request& request) {
  JsonObject object;
  object["id"] = request.id;
  switch (request.verb) {
    case Request::Verb::kStart:
      object["verb"] = "start";
      put_start(object, request.start);
      break;
    case Request::Verb::kStop:
      object["verb"] = "stop";
      object["unit"] = request.stop.unit;
      object["signal"] = request.stop.signal;
      object["timeout_ms"] = request.stop.timeout_ms;
      if (request.stop.remove_vm) object["remove_vm"] = request.stop.remove_vm->hex();
      break;
    case Request::Verb::kStatus:
      object["verb"] = "status";
      break;
  }
  return sys::to_text(object);
}

std::string encode(const Reply& reply) {
  JsonObject object;
  object["id"] = reply.id;
  object["ok"] = !reply.error.has_value();
  if (reply.error) object["error"] = sys::error_to_json(*reply.error);
  if (reply.pid != 0) object["pid"] = reply.pid;
  if (!reply.units.empty()) {
    JsonArray units;
    for (const UnitStatus& unit : reply.units) {
      JsonObject item;
      item["unit"] = unit.unit;
      item["pid"] = unit.pid;
      item["state"] = unit.running ? "running" : "exited";
      item["exit_status"] = unit.exit_status;
      item["signal"] = unit.signal;
      item["restarts"] = unit.restarts;
      units.emplace_back(std::move(item));
    }
    object["units"] = std::move(units);
  }
  return sys::to_text(object);
}

std::string encode(const Event& event) {
  JsonObject object;
  object["event"] = event.kind == Event::Kind::kExited ? "exited" : "started";
  object["unit"] = event.unit;
  object["pid"] = event.pid;
  if (event.kind == Event::Kind::kExited) {
    object["exit_status"] = event.exit_status;
    object["signal"] = event.signal;
    object["will_restart"] = event.will_restart;
    object["stderr_tail"] = event.stderr_tail;
  }
  return sys::to_text(object);
}

Result<Request> decode_request(std::string_view text) {
  JsonObject object = TRY(sys::parse_json_object(text, {.bytes_max = kMessageBytesMax}));
  Request request;
  request.id = TRY(sys::get_u64(object, "id"));
  std::string verb = TRY(sys::get_string(object, "verb"));
  if (verb == "start") {
    request.verb = Request::Verb::kStart;
    request.start = TRY(decode_start(object));
  } else if (verb == "stop") {
    request.verb = Request::Verb::kStop;
    request.stop = TRY(decode_stop(object));
  } else if (verb == "status") {
    request.verb = Request::Verb::kStatus;
  } else {
    return bad("the launcher knows start, stop and status, not \"" + verb + "\"");
  }
  return request;
}

Result<FromLauncher> decode_from_launcher(std::string_view text) {
  JsonObject object = TRY(sys::parse_json_object(text, {.bytes_max = size_t{1} << 20}));
  FromLauncher message;
  if (sys::has_member(object, "event")) {
    message.event = TRY(decode_event(object));
  } else {
    message.reply = TRY(decode_reply(object));
  }
  return message;
}

}  // namespace hf::launcher
