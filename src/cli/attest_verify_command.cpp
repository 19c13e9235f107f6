// holdfast attest verify: a relying party's check of an attestation result. Offline: it needs the
// site's published keys and no site.
#include <CLI/CLI.hpp>
#include <cstdio>

#include "attestation/token/ear.h"
#include "base/base64.h"
#include "cli/core/grammar.h"
#include "cli/core/input.h"
#include "cli/core/parse.h"
#include "sys/system_clock.h"

namespace hf::cli {
namespace {

using attestation::Ear;
using attestation::EarExpectation;

struct VerifyOptions {
  std::string token;
  std::string keys;
  std::string nonce;
  std::string vm;
  std::string policy;
  std::string role = "production";
  std::string accept = "affirming";
  std::string max_age = "5m";
};

Result<std::string> read_token(const std::string& argument) {
  if (argument == "-") return trimmed_text(TRY(read_input("-", attestation::kTokenMax + 2)));
  if (argument.starts_with('@')) {
    return trimmed_text(TRY(read_input(argument.substr(1), attestation::kTokenMax + 2)));
  }
  return argument;
}

Result<EarExpectation> expectation_of(const VerifyOptions& options) {
  EarExpectation expected;
  expected.now = sys::SystemClock().wall_time();
  expected.age_max_s = TRY(parse_duration(options.max_age));
  if (!options.nonce.empty()) {
    Result<Bytes> nonce = base64url_decode(options.nonce);
    if (!nonce.ok()) {
      return Error{.code = ErrorCode::kInvalidArgument,
                   .cause = "the nonce is not base64url without padding",
                   .effect = "nothing was verified",
                   .mend = "give it as it stands in the evidence: basenc --base64url | tr -d ="};
    }
    expected.nonce = std::move(*nonce);
  }
  if (!options.vm.empty()) {
    Result<VmId> vm = VmId::parse_hex(options.vm);
    if (!vm.ok()) {
      return Error{.code = ErrorCode::kInvalidArgument,
                   .cause = "\"" + options.vm + "\" is not a VM's id",
                   .effect = "nothing was verified",
                   .mend = "give its 32 hex digits: holdfast vm show NAME at the VM's site"};
    }
    expected.vm = *vm;
  }
  if (!options.policy.empty()) expected.policy_id = options.policy;
  expected.role = attestation::parse_vm_role(options.role);  // none: any
  expected.status_worst = attestation::parse_trust_tier(options.accept)
                              .value_or(attestation::TrustTier::kContraindicated);
  return expected;
}

std::string time_of(Micros time) { return time_text(sys::JsonObject{{"t", time.value}}, "t"); }

sys::JsonObject summary(const Ear& ear) {
  sys::JsonObject out;
  out["verdict"] = ear.vm.verdict;
  out["status"] = std::string(to_string(ear.status));
  if (ear.vm.vm) out["vm"] = ear.vm.vm->hex();
  if (ear.vm.role) out["role"] = std::string(to_string(*ear.vm.role));
  out["epoch"] = ear.vm.epoch.value;
  out["incarnation"] = ear.vm.incarnation.hex();
  out["sequence"] = ear.vm.sequence.value;
  out["freshness"] = ear.vm.freshness;
  out["issued"] = time_of(ear.issued_at);
  if (ear.expires_at) out["expires"] = time_of(*ear.expires_at);
  std::string policies;
  for (const std::string& id : ear.policy_ids) policies += (policies.empty() ? "" : ", ") + id;
  out["policy"] = policies;
  size_t number = 0;
  for (const attestation::EarReason& reason : ear.vm.reasons) {
    out["reason " + std::to_string(++number)] = reason.words;
  }
  return out;
}

// Says what a refusal means: an authentic token that does not say what was asked for is another
// thing than a token that nobody vouches for.
Error explain(Error error) {
  if (error.code == ErrorCode::kConflict) {
    return std::move(error)
        .with_effect("the token is authentic, but not what was asked for; do not rely on it")
        .with_mend("ask the VM's site for a new one with your nonce");
  }
  return std::move(error)
      .with_effect("the token proves nothing")
      .with_mend("check that the keys are those the site publishes: GET /v1/attestation/keys");
}

Status verify(const Context& context, const VerifyOptions& options) {
  const std::string token = TRY(read_token(options.token));
  const Bytes key_text = TRY(read_input(options.keys, attestation::kKeySetTextMax));
  Result<attestation::KeySet> keys = attestation::KeySet::parse(as_text(key_text));
  if (!keys.ok()) {
    return std::move(keys)
        .error()
        .context(options.keys)
        .with_effect("nothing was verified")
        .with_mend("fetch the site's key set: GET /v1/attestation/keys");
  }
  const EarExpectation expected = TRY(expectation_of(options));
  Result<Ear> ear = attestation::verify_ear(token, *keys, expected);
  if (!ear.ok()) return explain(std::move(ear).error());
  if (context.format == Format::kJson) {
    std::puts(sys::to_text(attestation::to_json(*ear)).c_str());
  } else {
    print_object(context, summary(*ear));
  }
  return {};
}

}  // namespace

void add_attest_verify(CLI::App& app, Line& line) {
  CLI::App* attest = noun(app, "attest", "what a VM's TPM says of its boot");
  CLI::App* sub = attest->add_subcommand(
      "verify", "check an attestation result offline, as the one who relies on it");
  auto options = std::make_shared<VerifyOptions>();
  sub->add_option("token", options->token, "the token, @FILE, or - for standard input")->required();
  sub->add_option("--jwks", options->keys, "the site's published keys (a file)")
      ->type_name(kFileWord)
      ->required();
  sub->add_option("--nonce", options->nonce, "the token must answer this nonce (base64url)");
  sub->add_option("--vm", options->vm, "the token must be about the VM with this id");
  sub->add_option("--policy", options->policy,
                  "the policy that must have been applied, by its id (NAME:16 HEX DIGITS)");
  sub->add_option("--role", options->role, "what the VM must run as")
      ->check(CLI::IsMember({"production", "drill", "branch", "any"}))
      ->capture_default_str();
  sub->add_option("--accept", options->accept, "the worst status that is still taken")
      ->check(CLI::IsMember({"affirming", "warning", "none", "any"}))
      ->capture_default_str();
  sub->add_option("--max-age", options->max_age, "of the token")->capture_default_str();
  verb(sub, line, [options](const Context& context) { return verify(context, *options); });
}

}  // namespace hf::cli
