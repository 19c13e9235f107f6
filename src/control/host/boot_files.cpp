#include "control/host/boot_files.h"

#include <thread>

#include "keeper_protocol/client.h"

namespace hf::control {
namespace {

using namespace std::chrono_literals;

constexpr auto kKeeperLimit = 3s;
constexpr auto kPoll = 50ms;

}  // namespace

Result<uint64_t> ask_boot_files(const std::string& control_socket) {
  sys::JsonObject answer =
      TRY(keeper_protocol::Client(control_socket).ask(keeper_protocol::BootFiles{}, kKeeperLimit));
  return sys::get_u64(answer, "ticket");
}

Result<std::optional<BootFiles>> take_boot_files(const std::string& control_socket,
                                                 uint64_t ticket) {
  sys::JsonObject answer =
      TRY(keeper_protocol::Client(control_socket)
              .ask(keeper_protocol::BootFiles{.ticket = ticket}, kKeeperLimit));
  if (TRY(sys::get_bool(answer, "reading"))) return std::optional<BootFiles>();
  if (sys::has_member(answer, "error")) {
    return sys::error_from_json(*TRY(sys::get_object(answer, "error")));
  }
  return std::optional<BootFiles>(BootFiles{.knowledge = TRY(attestation::parse_disk_knowledge(
                                                TRY(sys::get_string(answer, "knowledge")))),
                                            .report = *TRY(sys::get_object(answer, "report")),
                                            .text = TRY(sys::get_string(answer, "text"))});
}

Result<BootFiles> read_boot_files(const std::string& control_socket,
                                  std::chrono::milliseconds limit) {
  const auto end = std::chrono::steady_clock::now() + limit;
  const uint64_t ticket = TRY(ask_boot_files(control_socket));
  while (std::chrono::steady_clock::now() < end) {
    std::optional<BootFiles> found = TRY(take_boot_files(control_socket, ticket));
    if (found) return *std::move(found);
    std::this_thread::sleep_for(kPoll);
  }
  return Error{.code = ErrorCode::kTimeout,
               .cause = "the VM's boot files were not read in time",
               .effect = "what its disk boots is not known now",
               .mend = "ask again in a moment"};
}

}  // namespace hf::control
