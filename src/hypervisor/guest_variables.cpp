#include "hypervisor/guest_variables.h"

#include <algorithm>

#include "base/text.h"

namespace hf::hypervisor {
namespace {

constexpr size_t kGuestWordsMax = 400;

// $1: the variable's file; what is to be written comes on standard input. It goes into a file
// first: one read and one write of dd are all of it, whatever pieces the pipe gave.
constexpr const char* kScript = R"(set -e
PATH=/usr/sbin:/usr/bin:/sbin:/bin
umask 077
new=$(mktemp)
trap 'rm -f "$new"' EXIT
cat >"$new"
file=/sys/firmware/efi/efivars/$1
[ ! -e "$file" ] || chattr -i "$file"
dd if="$new" of="$file" bs=2M conv=notrunc 2>"$new.said" || { cat "$new.said" >&2; rm -f "$new.said"; exit 1; }
rm -f "$new.said")";

bool plain(std::string_view file) {
  return !file.empty() && std::ranges::all_of(file, [](char c) {
    return c == '-' || (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
  });
}

}  // namespace

Status write_efi_variable(GuestAgent& agent, const EfiVariableWrite& variable,
                          GuestAgent::Millis limit) {
  HF_ASSERT(plain(variable.file));
  Bytes content(sizeof(uint32_t));
  store_le<uint32_t>(content.data(), variable.attributes);
  content.insert(content.end(), variable.data.begin(), variable.data.end());
  GuestRun run = TRY(agent.run("/bin/sh", {"-c", kScript, "sh", variable.file}, limit, content));
  if (run.exit_status == 0 && run.signal == 0) return {};
  std::string words = clean_text(run.errors.empty() ? run.output : run.errors, kGuestWordsMax);
  return Error{.code = ErrorCode::kConflict,
               .cause = "the guest could not write its UEFI variable " + variable.file + ": " +
                        (words.empty() ? "status " + std::to_string(run.exit_status) : words),
               .effect = "the variable is as it was",
               .mend =
                   "in the guest: mount efivarfs at /sys/firmware/efi/efivars; its firmware "
                   "takes only what is signed by its KEK"};
}

}  // namespace hf::hypervisor
