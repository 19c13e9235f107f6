// holdfast vm check IMAGE|VM: what a disk would boot, and whether its VM would let it.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <filesystem>

#include "cli/core/grammar.h"
#include "cli/secure_boot_profile.h"
#include "cli/secure_boot_target.h"
#include "secure_boot/change/content.h"
#include "secure_boot/change/profiles.h"
#include "secure_boot/preflight/boot_option.h"
#include "secure_boot/preflight/preflight.h"

namespace hf::cli {
namespace {

namespace sb = secure_boot;

// The store that new VMs start with.
constexpr std::string_view kTemplate = "/usr/share/OVMF/OVMF_VARS_4M.ms.fd";

struct CheckOptions {
  std::string what;
  std::string vars;
  std::string profile;
  std::vector<std::string> certificates;
  bool json = false;
};

Result<sb::VariableStore> read_store(const std::string& path) {
  const Bytes bytes = TRY(read_file(path, sb::kContentBytesMax));
  return TRY_CONTEXT(sb::VariableStore::parse(bytes), path);
}

// The store of a new VM after `holdfast secure-boot profile` with that name.
Result<sb::VariableStore> store_with_profile(const CheckOptions& options) {
  sb::VariableStore store = TRY(read_store(std::string(kTemplate)));
  if (options.profile.empty()) return store;
  const sb::Profile profile = TRY(sb::parse_profile(options.profile));
  sb::ProfileOptions wanted;
  if (profile == sb::Profile::kDebian) {
    const Bytes shim = TRY(read_file(std::string(sb::kHostShim), sb::kContentBytesMax));
    const sb::PeImage image = TRY(sb::PeImage::parse(shim));
    const Bytes digest = TRY(image.authenticode_digest(sb::DigestAlgorithm::kSha256));
    std::ranges::copy(digest, wanted.shims.emplace_back().bytes.begin());
  }
  const sb::CertificatePool pool = TRY(certificate_pool(options.certificates));
  const sb::ProfilePlan plan =
      TRY(sb::plan_profile(profile, pool, wanted, sb::secure_boot_variables(store)));
  TRY(sb::apply_changes(store, plan.changes, {.year = 2026, .month = 1, .day = 1}));
  return store;
}

Result<sb::PreflightInput> input_of(const CheckOptions& options) {
  sb::PreflightInput input;
  if (!options.vars.empty()) {
    input = TRY(sb::preflight_input_of(TRY(read_store(options.vars)), options.vars));
  } else {
    std::string name =
        options.profile.empty() ? "a new VM's (" + std::string(kTemplate) + ")" : options.profile;
    input = TRY(sb::preflight_input_of(TRY(store_with_profile(options)), std::move(name)));
  }
  // What `vm create` makes: UEFI with SMM, vTPM; no virtual IOMMU, no nested virtualization.
  input.vm = sb::VmProfile{.secure_boot = input.state.enforced};
  return input;
}

void print(const CheckOptions& options, const Context& context, const sys::JsonObject& report,
           const std::string& text) {
  if (options.json || context.format == Format::kJson) {
    std::puts(sys::to_text(report).c_str());
  } else {
    std::fputs(text.c_str(), stdout);
  }
}

Error will_not_boot(const std::string& what, const std::string& summary) {
  return Error{.code = ErrorCode::kConflict,
               .cause = what + ": " + summary,
               .effect = "a VM with these keys would not start it",
               .mend =
                   "sign what is not trusted, or choose the keys that it is signed by: "
                   "holdfast secure-boot profile --help"};
}

Status check_image(const Context& context, const CheckOptions& options) {
  sb::FileSource disk = TRY(sb::FileSource::open(options.what));
  const sb::PreflightInput input = TRY(input_of(options));
  const sb::PreflightReport report = TRY_CONTEXT(sb::preflight(disk, input), options.what);
  print(options, context, sb::to_json(report), sb::in_words(report));
  if (report.boots == sb::Boots::kNo) return will_not_boot(options.what, report.summary);
  return {};
}

// The VM's keeper reads its disk, running or not; the report has the same members, and `text`.
Status check_vm(const Context& context, const CheckOptions& options) {
  const sys::JsonValue answer =
      TRY(context.client().get("/v1/vms/" + url_escape(options.what) + "/check"));
  if (!answer.is_object()) {
    return Error{.code = ErrorCode::kInternal, .cause = "the daemon's report is no report"};
  }
  sys::JsonObject report = answer.as_object();
  const std::string text = TRY(sys::get_string(report, "text"));
  report.erase("text");
  print(options, context, report, text);
  if (TRY(sys::get_string(report, "boots")) != sb::to_string(sb::Boots::kNo)) return {};
  return will_not_boot(options.what, TRY(sys::get_string(report, "summary")));
}

Status check(const Context& context, const CheckOptions& options) {
  std::error_code unused;
  const bool is_file =
      options.what.find('/') != std::string::npos || std::filesystem::exists(options.what, unused);
  return is_file ? check_image(context, options) : check_vm(context, options);
}

}  // namespace

void add_vm_check(CLI::App& app, Line& line) {
  CLI::App* vm = noun(app, "vm", "virtual machines");
  CLI::App* sub = vm->add_subcommand(
      "check", "what a disk boots, who signed it, and whether its VM would let it");
  auto options = std::make_shared<CheckOptions>();
  sub->add_option("what", options->what, "a raw disk image, or the name of a VM")
      ->type_name(kTargetWord)
      ->required();
  CLI::Option* vars =
      sub->add_option("--vars", options->vars, "variable store whose keys and boot entries decide")
          ->type_name(kFileWord);
  sub->add_option("--profile", options->profile,
                  "keys by the name of a profile (holdfast secure-boot profile --help)")
      ->excludes(vars);
  sub->add_option("--certificate", options->certificates,
                  "file with a certificate that the profile needs; may be repeated")
      ->type_name(kFileWord);
  sub->add_flag("--json", options->json, "the report as JSON, as -o json");
  verb(sub, line, [options](const Context& context) { return check(context, *options); });
}

}  // namespace hf::cli
