#include "control/attest/attestation_reader.h"

#include <algorithm>

#include "attestation/rollover/key_plan.h"
#include "attestation/verdict/boot_watch.h"
#include "base/base64.h"
#include "control/secure_boot/secure_boot_vm.h"
#include "keeper_protocol/client.h"

namespace hf::control {
namespace {

using namespace std::chrono_literals;
namespace kp = keeper_protocol;
using attestation::ExtendRecord;
using attestation::HashAlg;
using attestation::PcrValues;

constexpr auto kKeeperLimit = 3s;
constexpr int kTries = 5;

class Keeper {
 public:
  explicit Keeper(const std::string& control_socket) : client_(control_socket) {}

  template <typename Asked>
  Result<typename Asked::Reply> ask(const Asked& question) const {
    return client_.ask(question, kKeeperLimit);
  }
  Result<Bytes> bytes_of(const sys::JsonObject& answer, std::string_view name) const {
    return base64_decode(TRY(sys::get_string(answer, name)));
  }
  Result<ExtendRecord> record() const;

 private:
  kp::Client client_;
};

Result<ExtendRecord> Keeper::record() const {
  for (int attempt = 0; attempt < kTries; ++attempt) {
    ExtendRecord record = TRY(attestation::extend_record_from(TRY(ask(kp::Measurements{}))));
    bool same = true;
    while (same && record.extends.size() < record.total) {
      size_t before = record.extends.size();
      ExtendRecord page = TRY(attestation::extend_record_from(
          TRY(ask(kp::Measurements{.from = record.extends.size()}))));
      Status joined = attestation::append_page(record, std::move(page));
      if (!joined.ok() && joined.error().code != ErrorCode::kConflict) {
        return std::move(joined).error();
      }
      same = joined.ok() && record.extends.size() > before;
    }
    if (same) return record;
  }
  return Error{.code = ErrorCode::kConflict,
               .cause = "the VM was reset again and again while its measurements were read",
               .effect = "there is no verdict of this boot",
               .mend = "holdfast attest check VM, once it runs"};
}

// A quote, the register values that belong to it, and how long the record was then.
struct QuotedMoment {
  std::string boot_id;
  uint64_t extends = 0;
};

Result<QuotedMoment> read_quote(const Keeper& keeper, attestation::Evidence& evidence) {
  sys::JsonObject key = TRY(keeper.ask(kp::AttestationKey{}));
  evidence.ak_public = TRY(keeper.bytes_of(key, "ak_public"));
  if (sys::has_member(key, "ek_certificate")) {
    evidence.ek_certificate = TRY(keeper.bytes_of(key, "ek_certificate"));
  }
  kp::Quote question{.nonce = evidence.nonce, .selection = {}};
  for (uint32_t pcr : kQuotedPcrs) {
    question.selection["sha256"].push_back(static_cast<uint8_t>(pcr));
  }
  sys::JsonObject answer = TRY(keeper.ask(question));
  evidence.quote = TRY(keeper.bytes_of(answer, "quote"));
  evidence.signature = TRY(keeper.bytes_of(answer, "signature"));
  const sys::JsonObject* banks = TRY(sys::get_object(answer, "pcrs"));
  const sys::JsonObject* bank = TRY(sys::get_object(*banks, "sha256"));
  PcrValues values{.bank = HashAlg::kSha256, .values = {}};
  for (uint32_t pcr : kQuotedPcrs) {
    values.values[pcr] = TRY(from_hex(TRY(sys::get_string(*bank, std::to_string(pcr)))));
  }
  evidence.pcrs = {std::move(values)};
  return QuotedMoment{.boot_id = TRY(sys::get_string(answer, "boot_id")),
                      .extends = TRY(sys::get_u64(answer, "total"))};
}

Result<attestation::KeyVariables> read_variables(const Keeper& keeper) {
  return attestation::key_variables(TRY(variables_of(TRY(keeper.ask(kp::SecureBoot{})))));
}

// Extends that came after the quote are another verdict's.
void cut(ExtendRecord& record, uint64_t end) {
  if (end >= record.extends.size()) return;
  record.extends.resize(end);
  record.total = end;
}

}  // namespace

Result<KeeperEvidence> read_keeper(const std::string& control_socket, ByteSpan nonce) {
  Keeper keeper(control_socket);
  KeeperEvidence all;
  for (int attempt = 0; attempt < kTries; ++attempt) {
    const kp::AnyStatus status = TRY(keeper.ask(kp::GetStatus{}));
    const auto* serving = std::get_if<kp::ServeStatus>(&status);
    if (serving == nullptr) {
      return Error{.code = ErrorCode::kUnavailable,
                   .cause = "the VM's keeper does not serve it now"};
    }
    all.epoch = serving->epoch;
    all.incarnation = serving->incarnation;
    all.durable = serving->durable;
    all.evidence = {};
    all.evidence.nonce.assign(nonce.begin(), nonce.end());
    Result<QuotedMoment> quoted = read_quote(keeper, all.evidence);
    if (!quoted.ok() && attempt == 0) continue;  // the keeper may just have been restarted
    all.record = TRY(keeper.record());
    if (quoted.ok()) {
      if (all.record.boot_id != quoted->boot_id) continue;  // a reset in between
      cut(all.record, quoted->extends);
    } else {
      const Error& why = quoted.error();
      all.no_quote =
          Error{.code = why.code,
                .cause = why.cause,
                .effect = "only the keeper's record says how the VM started",
                .mend = !why.mend.empty()
                            ? why.mend
                            : "find out what holds the TPM in the guest: a boot loader that leaves "
                              "keys loaded, a TPM2_Shutdown; then holdfast attest check VM"};
    }
    Result<attestation::KeyVariables> variables = read_variables(keeper);
    if (variables.ok()) {
      all.variables = *std::move(variables);
    } else if (all.no_quote) {
      all.no_variables = variables.error();
    } else {
      return std::move(variables).error();
    }
    for (const auto& [name, content] : all.variables) all.evidence.secure_boot[name] = content;
    return all;
  }
  return Error{.code = ErrorCode::kConflict,
               .cause = "the VM was reset again and again while its evidence was read",
               .effect = "there is no verdict of this boot",
               .mend = "holdfast attest check VM, once it runs"};
}

Result<std::string> read_boot_id(const std::string& control_socket) {
  constexpr uint64_t kNoExtends = uint64_t{1} << 32;  // the head of the answer only
  return TRY(attestation::parse_boot_head(
                 TRY(kp::Client(control_socket)
                         .ask(kp::Measurements{.from = kNoExtends}, kKeeperLimit))))
      .boot;
}

Result<Bytes> read_guest_log(hypervisor::GuestAgent& agent) {
  return agent.read_file(std::string(hypervisor::kLinuxEventLogPath));
}

}  // namespace hf::control
