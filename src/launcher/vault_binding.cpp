#include "launcher/vault_binding.h"

#include <algorithm>
#include <cstdio>

#include "sys/bounded_io.h"

namespace hf::launcher {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr uint32_t kMagic = 0x50564648;  // "HFVP"
constexpr uint16_t kVersion = 1;
constexpr uint16_t kBindKeepers = 0x0301;
constexpr uint16_t kReplyBit = 0x8000;
constexpr size_t kHeaderSize = 16;
constexpr size_t kReplyBodyMax = 8 * 1024;  // three texts of 2 KiB
constexpr size_t kErrorCodes = static_cast<size_t>(ErrorCode::kInternal) + 1;

milliseconds left_until(Clock::time_point deadline) {
  return std::max(milliseconds(0), std::chrono::ceil<milliseconds>(deadline - Clock::now()));
}

Status receive_whole(int fd, MutableByteSpan to, Clock::time_point deadline) {
  while (!to.empty()) {
    const size_t got = TRY(sys::receive_some(fd, to, left_until(deadline)));
    if (got == 0) {
      return Error{.code = ErrorCode::kUnavailable, .cause = "the vault closed the connection"};
    }
    to = to.subspan(got);
  }
  return {};
}

// A text of an error reply; takes it off `rest`.
std::string take_text(ByteSpan& rest) {
  if (rest.size() < 4) return {};
  const size_t size = std::min<size_t>(load_le<uint32_t>(rest.data()), rest.size() - 4);
  std::string text(as_text(rest.subspan(4, size)));
  rest = rest.subspan(4 + size);
  return text;
}

Status status_of(ByteSpan body) {
  if (body.size() < 2) return Error{.code = ErrorCode::kCorrupt, .cause = "a vault's empty reply"};
  const size_t status = load_le<uint16_t>(body.data());
  if (status == 0) return {};
  ByteSpan rest = body.subspan(2);
  Error error{
      .code = status <= kErrorCodes ? static_cast<ErrorCode>(status - 1) : ErrorCode::kInternal,
      .cause = take_text(rest)};
  error.effect = take_text(rest);
  error.mend = take_text(rest);
  return error;
}

}  // namespace

Result<Bytes> VaultBinding::next_list(const std::vector<BoundKeeper>& keepers) {
  if (keepers.size() > kBoundKeepersMax) {
    return Error{.code = ErrorCode::kLimit, .cause = "more than 6000 keepers at a time"};
  }
  constexpr size_t kEntry = sizeof(VmId::bytes) + 5;
  Bytes list(12 + keepers.size() * kEntry);
  store_le<uint64_t>(list.data(), ++generation_);
  store_le<uint32_t>(list.data() + 8, static_cast<uint32_t>(keepers.size()));
  std::byte* at = list.data() + 12;
  for (const BoundKeeper& keeper : keepers) {
    std::ranges::copy(keeper.vm.bytes, at);
    store_le<uint32_t>(at + sizeof(VmId::bytes), keeper.uid);
    at[sizeof(VmId::bytes) + 4] =
        static_cast<std::byte>((keeper.keeper ? 1U : 0U) | (keeper.guest ? 2U : 0U));
    at += kEntry;
  }
  return list;
}

Status VaultBinding::ask(ByteSpan list) {
  const Clock::time_point deadline = Clock::now() + kVaultLimit;
  const sys::UniqueFd fd = TRY(sys::connect_unix_within(socket_path_, left_until(deadline)));
  Bytes frame(kHeaderSize);
  store_le<uint32_t>(frame.data(), kMagic);
  store_le<uint16_t>(frame.data() + 4, kVersion);
  store_le<uint16_t>(frame.data() + 6, kBindKeepers);
  store_le<uint32_t>(frame.data() + 12, static_cast<uint32_t>(list.size()));
  frame.insert(frame.end(), list.begin(), list.end());
  TRY(sys::send_all(fd.get(), frame, left_until(deadline)));
  std::byte header[kHeaderSize];
  TRY(receive_whole(fd.get(), header, deadline));
  const size_t size = load_le<uint32_t>(header + 12);
  if (load_le<uint32_t>(header) != kMagic ||
      load_le<uint16_t>(header + 6) != (kBindKeepers | kReplyBit) || size > kReplyBodyMax) {
    return Error{.code = ErrorCode::kCorrupt, .cause = "a vault's reply to something else"};
  }
  Bytes body(size);
  TRY(receive_whole(fd.get(), body, deadline));
  return status_of(body);
}

Status VaultBinding::tell(const std::vector<BoundKeeper>& keepers) {
  const Bytes list = TRY(next_list(keepers));
  Status told = ask(list);
  if (told.ok()) {
    not_before_ = {};
    return {};
  }
  not_before_ = Clock::now() + kVaultPause;
  Error error = std::move(told).error().context("tell the vault which user the keeper is");
  if (error.effect.empty()) error.effect = "the keeper was not started";
  if (error.mend.empty()) {
    const std::string run = socket_path_.substr(0, socket_path_.find_last_of('/'));
    error.mend = "if the vault hangs: holdfast --state " + run.substr(0, run.find_last_of('/')) +
                 " site restart, under which VMs run on";
  }
  return error;
}

void VaultBinding::tell_of_an_end(const std::vector<BoundKeeper>& keepers) {
  if (Clock::now() < not_before_) return;
  if (Status told = tell(keepers); !told.ok()) {
    std::fprintf(stderr, "holdfast-launcher: %s\n", told.error().describe().c_str());
  }
}

Result<sys::UniqueFd> VaultBinding::for_start(const std::vector<BoundKeeper>& keepers) {
  const Bytes list = TRY(next_list(keepers));
  not_before_ = {};
  return sys::sealed_memfd("keepers", list);
}

}  // namespace hf::launcher
