#include "keeper/service/tpm_attestation.h"

#include <algorithm>
#include <chrono>
#include <thread>

#include "base/base64.h"

namespace hf::keeper {
namespace {

using std::chrono::milliseconds;

constexpr size_t kExtendsPerPage = 256;
// How long the guest's programs may be in the way; its kernel swaps them out within milliseconds.
constexpr milliseconds kBusyWait{20};
constexpr int kBusyTries = 100;  // 2 s, within what the daemon waits for an answer
constexpr size_t kSessionNonce = 16;

struct BankName {
  uint16_t algorithm;
  std::string_view name;
};
constexpr BankName kBankNames[] = {{vtpm::kAlgSha1, "sha1"},
                                   {vtpm::kAlgSha256, "sha256"},
                                   {vtpm::kAlgSha384, "sha384"},
                                   {vtpm::kAlgSha512, "sha512"}};

Error invalid(std::string cause) {
  return Error{.code = ErrorCode::kInvalidArgument, .cause = std::move(cause)};
}

std::string name_of(uint16_t algorithm) {
  const auto* found = std::ranges::find(kBankNames, algorithm, &BankName::algorithm);
  return found == std::end(kBankNames) ? "0x" + std::to_string(algorithm)
                                       : std::string(found->name);
}

Result<vtpm::PcrSelection> parse_selection(
    const std::map<std::string, std::vector<uint8_t>>& wanted) {
  static_assert(vtpm::kPcrsMax == keeper_protocol::kPcrsMax);
  vtpm::PcrSelection selection;
  for (const auto& [name, numbers] : wanted) {
    const auto* bank = std::ranges::find(kBankNames, name, &BankName::name);
    if (bank == std::end(kBankNames)) return invalid("no PCR bank: " + name);
    selection[bank->algorithm] = numbers;
    auto& pcrs = selection[bank->algorithm];
    std::ranges::sort(pcrs);
    if (pcrs.empty() || std::ranges::adjacent_find(pcrs) != pcrs.end()) {
      return invalid("each selected bank names its PCRs, each once");
    }
  }
  if (selection.empty()) return invalid("no PCR is selected");
  return selection;
}

sys::JsonObject pcrs_to_json(const vtpm::PcrValues& values) {
  sys::JsonObject banks;
  for (const auto& [bank, pcrs] : values) {
    sys::JsonObject object;
    for (const auto& [pcr, value] : pcrs) object[std::to_string(pcr)] = to_hex(value);
    banks[name_of(bank)] = std::move(object);
  }
  return banks;
}

// TPM2B_PUBLIC.
std::string sized_base64(const Bytes& area) {
  Bytes out(2 + area.size());
  store_be(out.data(), static_cast<uint16_t>(area.size()));
  std::ranges::copy(area, out.begin() + 2);
  return base64_encode(out);
}

std::string_view kind_name(vtpm::PcrChangeKind kind) {
  switch (kind) {
    case vtpm::PcrChangeKind::kExtend:
      return "extend";
    case vtpm::PcrChangeKind::kReset:
      return "reset";
    case vtpm::PcrChangeKind::kHcrtm:
      return "hcrtm";
    case vtpm::PcrChangeKind::kDrtm:
      return "drtm";
  }
  return "extend";
}

}  // namespace

Status TpmAttestation::learn_identity() {
  vtpm::Engine& engine = parts_.engine;
  refresh_pin();
  TRY(engine.init());
  // Nobody is told of anything before the end: until then it may as well not have been.
  TRY(engine.set_commit_allowed(false));
  Status learnt = [&]() -> Status {
    // A guest that hibernated has saved more than a TPM Reset leaves it; it finds that as it was.
    const auto saved = vtpm::StartupType::kState;
    const Bytes resumed = TRY(engine.process(vtpm::startup_command(saved)));
    const bool hibernated = vtpm::expect_success(resumed, "resume the TPM").ok();
    if (!hibernated) {
      const Bytes command = vtpm::startup_command(vtpm::StartupType::kClear);
      const Bytes answer = TRY(engine.process(command));
      TRY(vtpm::expect_success(answer, "start the TPM up"));
    }
    Status known = engine.between_guest_commands(
        [this](const vtpm::SendCommand& send) { return know_identity(send); });
    if (hibernated) TRY(engine.process(vtpm::shutdown_command(saved)));
    return known;
  }();
  Status off = engine.power_off();
  TRY(engine.set_commit_allowed(true));
  TRY(std::move(off));
  return learnt;
}

// A vault that is away for a moment is asked again the next time; what it said last still holds.
void TpmAttestation::refresh_pin() {
  Result<std::optional<Bytes>> name = parts_.vault.attestation_pinned_name(parts_.vm);
  if (name.ok()) pinned_name_ = *std::move(name);
}

Status TpmAttestation::know_identity(const vtpm::SendCommand& send) {
  if (identity_ && (!pinned_name_ || identity_->ak_name == *pinned_name_)) return {};
  const auto expected =
      pinned_name_ ? std::optional<ByteSpan>(*pinned_name_) : std::optional<ByteSpan>();
  identity_ = TRY(vtpm::read_identity(send, expected));
  return {};
}

Status TpmAttestation::refuse_swapped_key() const {
  HF_ASSERT(identity_.has_value());
  if (!pinned_name_ || identity_->ak_name == *pinned_name_) return {};
  return Error{.code = ErrorCode::kWrongKey,
               .cause = "the vTPM's attestation key is " + to_hex(identity_->ak_name) +
                        ", and the enrolled one is " + to_hex(*pinned_name_),
               .effect = "it is not asked for a quote: it would prove another TPM's state",
               .mend = "find out whose vTPM state the VM runs on"};
}

Status TpmAttestation::with_tpm(const Work& work) {
  for (int i = 1;; ++i) {
    Status done = parts_.engine.between_guest_commands(work);
    if (done.ok() || done.error().code != ErrorCode::kTimeout) return done;
    if (i == kBusyTries) {
      return Error{.code = ErrorCode::kUnavailable,
                   .cause = std::move(done).error().cause,
                   .effect = "nothing was asked of it; the guest goes on undisturbed",
                   .mend = "end what holds the TPM's keys in the guest, then try again"};
    }
    std::this_thread::sleep_for(kBusyWait);
  }
}

Result<sys::JsonObject> TpmAttestation::pcrs() {
  vtpm::PcrValues values;
  TRY(with_tpm([&](const vtpm::SendCommand& send) -> Status {
    values = TRY(vtpm::read_pcrs(send));
    return {};
  }));
  return sys::JsonObject{{"pcrs", pcrs_to_json(values)}};
}

Result<sys::JsonObject> TpmAttestation::attestation_key() {
  refresh_pin();
  Status known = with_tpm([this](const vtpm::SendCommand& send) { return know_identity(send); });
  if (!identity_) {
    HF_ASSERT(!known.ok());
    return std::move(known).error();
  }
  sys::JsonObject answer{{"ak_public", sized_base64(identity_->ak_public)},
                         {"ak_name", to_hex(identity_->ak_name)},
                         {"ek_public", sized_base64(identity_->ek_public)},
                         {"ek_certificate", nullptr}};
  if (identity_->ek_certificate) {
    answer["ek_certificate"] = base64_encode(*identity_->ek_certificate);
  }
  return answer;
}

Result<keeper_protocol::Secret> TpmAttestation::activate_credential(
    const keeper_protocol::ActivateCredential& asked) {
  refresh_pin();
  Bytes nonce(kSessionNonce);
  parts_.rng.fill(nonce);
  Bytes secret;
  TRY(with_tpm([&](const vtpm::SendCommand& send) -> Status {
    TRY(know_identity(send));
    secret = TRY(vtpm::activate_credential(send, *identity_, asked.id_object,
                                           asked.encrypted_secret, nonce));
    return {};
  }));
  return keeper_protocol::Secret{.secret = std::move(secret)};
}

Result<sys::JsonObject> TpmAttestation::quote(const keeper_protocol::Quote& asked) {
  const vtpm::PcrSelection selection = TRY(parse_selection(asked.selection));
  refresh_pin();
  vtpm::Quote made;
  vtpm::ExtendRecorder::View record;
  TRY(with_tpm([&](const vtpm::SendCommand& send) -> Status {
    TRY(know_identity(send));
    TRY(refuse_swapped_key());
    made = TRY(vtpm::quote(send, *identity_, asked.nonce, selection));
    record = parts_.recorder.read(0, 0);  // no command of the guest's since the quote
    return {};
  }));
  return sys::JsonObject{{"quote", base64_encode(made.attest)},
                         {"signature", base64_encode(made.signature)},
                         {"pcrs", pcrs_to_json(made.pcrs)},
                         {"boot_id", record.boot.id.hex()},
                         {"total", record.boot.total}};
}

sys::JsonObject measurements_page(const vtpm::ExtendRecorder& recorder, uint64_t from) {
  const vtpm::ExtendRecorder::View view = recorder.read(from, kExtendsPerPage);
  sys::JsonObject boot{{"id", view.boot.id.hex()},
                       {"started_us", view.boot.started.value},
                       {"powered", view.boot.powered},
                       {"complete", view.boot.complete},
                       {"startup_locality", view.boot.startup_locality},
                       {"exit_boot_services", nullptr},
                       {"exit_us", nullptr}};
  if (view.boot.exit_boot_services) boot["exit_boot_services"] = *view.boot.exit_boot_services;
  if (view.boot.exit_time) boot["exit_us"] = view.boot.exit_time->value;
  sys::JsonArray extends;
  for (const vtpm::PcrChangeRecord& change : view.changes) {
    sys::JsonObject digests;
    for (const vtpm::BankDigest& digest : change.digests) {
      digests[name_of(digest.algorithm)] = to_hex(digest.digest);
    }
    sys::JsonObject object{{"n", from + extends.size()},
                           {"pcr", change.pcr},
                           {"locality", change.locality},
                           {"time_us", change.time.value},
                           {"digests", std::move(digests)}};
    if (change.kind != vtpm::PcrChangeKind::kExtend) object["kind"] = kind_name(change.kind);
    extends.push_back(std::move(object));
  }
  return sys::JsonObject{
      {"boot", std::move(boot)}, {"total", view.boot.total}, {"extends", std::move(extends)}};
}

}  // namespace hf::keeper
