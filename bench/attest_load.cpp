#include "bench/attest_load.h"

#include <fmt/format.h>

#include <fstream>
#include <iterator>
#include <thread>

#include "attestation/baseline/baseline.h"
#include "attestation/log/event_log.h"
#include "attestation/testing/log_writer.h"
#include "crypto/crypto.h"
#include "sys/system_clock.h"

namespace hf::bench {
namespace {

using namespace attestation;

constexpr uint32_t kQuotedPcrs = 0x00FFFF;  // 0 to 15
constexpr size_t kTailEvents = 2;           // "Exit Boot Services …" stay the last

Bytes random_bytes(size_t size) {
  Bytes bytes(size);
  crypto::SystemRng().fill(bytes);
  return bytes;
}

// The boot's log with GRUB commands of this VM put in before its last two events.
Bytes grow(const EventLog& boot, const std::string& disk) {
  LogWriter more({HashAlg::kSha256});
  const size_t header = more.bytes().size();
  const std::string command_line = "/vmlinuz-6.1.0-43-amd64 root=UUID=" + disk + " ro quiet splash";
  for (size_t n = boot.events().size(); n < kEventsOfLog - 2; ++n) {
    more.grub_text("grub_cmd", fmt::format("[ x{} = xtrue -a -e (hd0,gpt2)/{} ]", n, disk));
  }
  more.grub_text("grub_cmd", "linux " + command_line);
  more.grub_text("kernel_cmdline", command_line);
  const size_t tail = boot.events()[boot.events().size() - kTailEvents].byte_offset;
  const ByteSpan all = boot.bytes();
  Bytes log(all.begin(), all.begin() + static_cast<ptrdiff_t>(tail));
  log.insert(log.end(), more.bytes().begin() + static_cast<ptrdiff_t>(header), more.bytes().end());
  log.insert(log.end(), all.begin() + static_cast<ptrdiff_t>(tail), all.end());
  return log;
}

Status make_vm(Vm& vm, size_t number, const EventLog& boot) {
  crypto::SystemRng().fill(vm.id.bytes);
  vm.ak = std::make_unique<SoftwareAk>(number % 2 == 0 ? AkKind::kRsassa : AkKind::kEcdsaP256);
  vm.ak_name = TRY(parse_public(vm.ak->area())).name;
  vm.log = grow(boot, to_hex(random_bytes(16)));
  const EventLog log = TRY(EventLog::parse(vm.log));
  HF_ASSERT(log.events().size() == kEventsOfLog);
  const PcrBank bank = TRY(replay(log, HashAlg::kSha256));
  PcrValues& values = vm.pcrs.emplace_back();
  values.bank = HashAlg::kSha256;
  for (uint32_t pcr = 0; pcr < kPcrCount; ++pcr) {
    if ((kQuotedPcrs >> pcr & 1) == 0) continue;
    values.values[pcr] = Bytes(bank.value(pcr).begin(), bank.value(pcr).end());
  }
  const MeasuredBoot measured = TRY(MeasuredBoot::from({.log = &log}, HashAlg::kSha256));
  Baseline baseline;
  accept(baseline, TRY(learn(measured, {}, "", sys::SystemClock().wall_time())),
         AcceptMode::kReplace);
  vm.baseline = sys::to_text(to_json(baseline));
  return {};
}

}  // namespace

Result<Bytes> read_boot(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  if (text.empty()) return Error{.code = ErrorCode::kNotFound, .cause = path + " cannot be read"};
  return Bytes(as_bytes(text).begin(), as_bytes(text).end());
}

Result<std::vector<Vm>> make_vms(size_t count, const Bytes& boot, size_t threads) {
  const EventLog log = TRY(EventLog::parse(boot));
  std::vector<Vm> vms(count);
  std::vector<Status> done(threads);
  {
    std::vector<std::jthread> workers;
    for (size_t worker = 0; worker < threads; ++worker) {
      workers.emplace_back([&, worker] {
        for (size_t i = worker; i < count && done[worker].ok(); i += threads) {
          // Key kinds are spread over the workers, whatever their number.
          done[worker] = make_vm(vms[i], i / threads, log);
        }
      });
    }
  }
  for (Status& status : done) TRY(std::move(status));
  return vms;
}

Request make_request(const Vm& vm) {
  Evidence evidence;
  evidence.vm = vm.id;
  evidence.nonce = random_bytes(32);
  evidence.pcrs = vm.pcrs;
  evidence.quote = vm.ak->attest(evidence.nonce, vm.pcrs);
  evidence.signature = vm.ak->sign(evidence.quote);
  evidence.ak_public = vm.ak->area();
  evidence.event_log = vm.log;
  return {.vm = &vm, .nonce = evidence.nonce, .evidence = sys::to_text(to_json(evidence))};
}

}  // namespace hf::bench
