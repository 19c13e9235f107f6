// holdfast attest appraise: evidence judged by a policy, offline, on files. The result is not
// signed: it is for whoever runs the command. Signed ones come from a site (POST
// /v1/attestation/appraise).
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdio>

#include "attestation/appraisal/evidence_appraisal.h"
#include "base/base64.h"
#include "cli/core/grammar.h"
#include "cli/core/input.h"
#include "sys/system_clock.h"

namespace hf::cli {
namespace {

using namespace attestation;

constexpr size_t kCaFileMax = 65536;

struct AppraiseOptions {
  std::string evidence;
  std::string policy;
  std::string baseline;
  std::string nonce;
  std::string ak_name;
  std::vector<std::string> cas;
};

Error bad_input(Error error, std::string_view where) {
  return std::move(error)
      .context(where)
      .with_effect("nothing was appraised")
      .with_mend("see docs/formats/evidence.md and docs/formats/appraisal-policy.md");
}

// What the options name, read.
struct Inputs {
  Evidence evidence;
  Policy policy;
  std::optional<Baseline> baseline;
  std::vector<crypto::Certificate> cas;
  std::optional<Bytes> nonce;
  std::optional<Bytes> ak_name;
};

Result<Policy> read_policy(const std::string& name) {
  if (Result<Policy> policy = built_in_policy(name); policy.ok()) return policy;
  const Bytes text = TRY(read_input(name, kPolicyJsonMax));
  Result<Policy> policy = parse_policy(as_text(text));
  if (!policy.ok()) return bad_input(std::move(policy).error(), name);
  return policy;
}

Result<Inputs> read_inputs(const AppraiseOptions& options) {
  Inputs inputs;
  const Bytes text = TRY(read_input(options.evidence, kEvidenceTextMax));
  Result<Evidence> evidence = parse_evidence(as_text(text));
  if (!evidence.ok()) return bad_input(std::move(evidence).error(), options.evidence);
  inputs.evidence = std::move(*evidence);
  inputs.policy = TRY(read_policy(options.policy));
  if (!options.baseline.empty()) {
    const Bytes json = TRY(read_input(options.baseline, kBaselineJsonMax));
    Result<Baseline> baseline = parse_baseline(as_text(json));
    if (!baseline.ok()) return bad_input(std::move(baseline).error(), options.baseline);
    inputs.baseline = std::move(*baseline);
  }
  for (const std::string& path : options.cas) {
    const Bytes pem = TRY(read_input(path, kCaFileMax));
    inputs.cas.push_back(TRY_CONTEXT(crypto::Certificate::from_pem(as_text(pem)), path));
  }
  if (!options.nonce.empty()) {
    inputs.nonce = TRY_CONTEXT(base64url_decode(options.nonce), "--nonce");
  }
  if (!options.ak_name.empty()) {
    inputs.ak_name = TRY_CONTEXT(from_hex(options.ak_name), "--ak-name");
  }
  return inputs;
}

void print(const Context& context, const EvidenceAnswer& answer, bool fresh) {
  sys::JsonObject out = to_json(answer.appraisal);
  out["attestation_key"] = answer.key_words;
  out["nonce"] = fresh ? "the verifier's" : "the evidence's own: it may be an old one";
  if (context.format == Format::kJson) {
    std::puts(sys::to_text(out).c_str());
    return;
  }
  sys::JsonObject rows;
  for (const char* name :
       {"verdict", "policy", "secure_boot", "kernel_command_line", "attestation_key", "nonce"}) {
    if (!out[name].is_null()) rows[name] = out[name];
  }
  size_t number = 0;
  for (const Reason& reason : answer.appraisal.reasons) {
    rows[fmt::format("{} {}", name_of(reason.severity), ++number)] = reason.words;
  }
  print_object(context, rows);
}

Status appraise_file(const Context& context, const AppraiseOptions& options) {
  const Inputs inputs = TRY(read_inputs(options));
  EvidenceQuestion question;
  question.nonce = inputs.nonce ? *inputs.nonce : inputs.evidence.nonce;
  question.policy = &inputs.policy;
  if (inputs.baseline) question.baseline = &*inputs.baseline;
  question.cas = &inputs.cas;
  question.context.pinned_ak_name = inputs.ak_name;
  question.context.now = sys::SystemClock().wall_time();
  const EvidenceAnswer answer = TRY(appraise_evidence(inputs.evidence, question));
  print(context, answer, inputs.nonce.has_value());
  if (answer.appraisal.verdict == Verdict::kHealthy) return {};
  const bool reasoned = !answer.appraisal.reasons.empty();
  return Error{.code = ErrorCode::kConflict,
               .cause = answer.appraisal.summary(),
               .effect = "this evidence does not show a healthy boot",
               .mend = reasoned ? answer.appraisal.reasons.front().mend : ""};
}

}  // namespace

void add_attest_appraise(CLI::App& app, Line& line) {
  CLI::App* sub = noun(app, "attest", "what a VM's TPM says of its boot")
                      ->add_subcommand("appraise",
                                       "judge evidence by a policy, offline; exit status 0 if and "
                                       "only if it is Healthy");
  auto options = std::make_shared<AppraiseOptions>();
  sub->add_option("evidence", options->evidence, "evidence (a JSON file, or -)")
      ->type_name(kFileWord)
      ->required();
  sub->add_option("--policy", options->policy, "linux, windows, or a file")
      ->type_name(kFileWord)
      ->required();
  sub->add_option("--baseline", options->baseline, "what the VM's boots are like (a file)")
      ->type_name(kFileWord);
  sub->add_option("--nonce", options->nonce, "that the quote must answer (base64url)");
  sub->add_option("--ak-name", options->ak_name, "of the enrolled attestation key (hex)");
  sub->add_option("--ca", options->cas, "certificate of a trusted site's CA; may be repeated")
      ->type_name(kFileWord);
  verb(sub, line, [options](const Context& context) { return appraise_file(context, *options); });
}

}  // namespace hf::cli
