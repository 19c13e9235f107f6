// holdfast attest log FILE: an event log in words. Needs no site.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>

#include "attestation/boot/event_log_check.h"
#include "attestation/words/event_log_json.h"
#include "attestation/words/event_words.h"
#include "cli/core/grammar.h"

namespace hf::cli {
namespace {

namespace at = attestation;
constexpr size_t kPcrFileSizeMax = size_t{1} << 20;

struct LogOptions {
  std::string file;
  std::string bank;
  std::string pcrs;
  bool json = false;
};

struct FileClose {
  void operator()(std::FILE* file) const { (void)std::fclose(file); }
};

// Whole, up to one byte more than the limit; securityfs tells no sizes.
Result<Bytes> read_file(const std::string& path, size_t size_max) {
  std::unique_ptr<std::FILE, FileClose> file(std::fopen(path.c_str(), "rb"));
  if (!file) return errno_error(errno, "open " + path);
  Bytes bytes(size_max + 1);
  size_t size = std::fread(bytes.data(), 1, bytes.size(), file.get());
  if (std::ferror(file.get()) != 0) return errno_error(errno, "read " + path);
  bytes.resize(size);
  return bytes;
}

Result<std::vector<at::KnownPcr>> known_of_bank(const sys::JsonObject& values, at::HashAlg alg,
                                                std::vector<Bytes>& keep) {
  std::vector<at::KnownPcr> known;
  for (uint32_t pcr = 0; pcr < at::kPcrCount; ++pcr) {
    if (!values.contains(std::to_string(pcr))) continue;
    keep.push_back(TRY(from_hex(TRY(sys::get_string(values, std::to_string(pcr))))));
    if (keep.back().size() != at::size_of(alg)) {
      return Error{.code = ErrorCode::kInvalidArgument,
                   .cause = fmt::format("PCR {} of bank {} has {} bytes", pcr, at::name_of(alg),
                                        keep.back().size())};
    }
    known.push_back({alg, pcr, keep.back()});
  }
  return known;
}

// {"pcrs": {"sha256": {"0": hex, …}}}: only the PCRs that the log has events of are compared, and
// 0.
Status compare_pcrs(const at::EventLog& log, const LogOptions& options) {
  Bytes text = TRY(read_file(options.pcrs, kPcrFileSizeMax));
  sys::JsonObject file = TRY_CONTEXT(sys::parse_json_object(as_text(text)), options.pcrs);
  const sys::JsonObject* banks = TRY_CONTEXT(sys::get_object(file, "pcrs"), options.pcrs);
  std::array<bool, at::kPcrCount> in_log{true};
  for (const at::Event& event : log.events()) {
    if (event.measured()) in_log[event.pcr] = true;
  }
  size_t compared = 0;
  for (const auto& member : *banks) {
    auto alg = at::parse_hash_alg(member.key());
    if (!alg || !log.has_bank(*alg) || !member.value().is_object()) continue;
    std::vector<Bytes> keep;
    keep.reserve(at::kPcrCount);
    auto known = TRY_CONTEXT(known_of_bank(member.value().as_object(), *alg, keep), options.pcrs);
    std::erase_if(known, [&](const at::KnownPcr& pcr) { return !in_log[pcr.pcr]; });
    compared += known.size();
    if (auto difference = at::find_difference(log, known)) {
      return Error{.code = ErrorCode::kConflict,
                   .cause = difference->reason,
                   .effect = "the log is not what this TPM measured",
                   .mend = "take the log and the PCR values of one boot of one machine"};
    }
  }
  if (compared > 0) return {};
  return Error{.code = ErrorCode::kInvalidArgument,
               .cause = options.pcrs + " has no PCR of a bank that the log has"};
}

void print_log(const Context& context, const sys::JsonObject& log) {
  sys::JsonArray rows = log.at("events").as_array();
  for (sys::JsonValue& row : rows) {
    sys::JsonObject& event = row.as_object();
    const sys::JsonValue* reason = event.if_contains("not_proven");
    std::string detail(event.at("detail").as_string());
    if (reason != nullptr) {
      detail += fmt::format("{}(not proven: {})", detail.empty() ? "" : "  ",
                            std::string_view(reason->as_string()));
    } else if (!event.at("proven").as_bool() && !detail.empty()) {
      detail += "  (not proven)";
    }
    event["detail"] = std::move(detail);
  }
  print_rows(context, rows,
             {{"EVENT", "number"}, {"PCR", "pcr"}, {"WHAT", "title"}, {"SAYS", "detail"}});
  for (const auto& bank : log.at("pcrs").as_object()) {
    std::puts("");
    sys::JsonArray values;
    for (const sys::JsonValue& pcr : log.at("extended").as_array()) {
      auto number = static_cast<uint32_t>(pcr.to_number<int64_t>());
      values.push_back({{"pcr", pcr},
                        {"value", bank.value().as_object().at(std::to_string(number))},
                        {"purpose", at::pcr_purpose(number)}});
    }
    print_rows(context, values,
               {{"PCR", "pcr"}, {std::string(bank.key()), "value"}, {"", "purpose"}});
  }
}

Status attest_log(const Context& given, const LogOptions& options) {
  Context context = given;
  if (options.json) context.format = Format::kJson;
  std::optional<at::HashAlg> bank;
  if (!options.bank.empty()) bank = at::parse_hash_alg(options.bank);
  Bytes bytes = TRY(read_file(options.file, at::kLogSizeMax));
  at::EventLog log = TRY_CONTEXT(at::EventLog::parse(bytes), options.file);
  sys::JsonObject object = TRY_CONTEXT(at::to_json(log, bank), options.file);
  if (context.format == Format::kJson) {
    print_object(context, object);
  } else {
    print_log(context, object);
  }
  return options.pcrs.empty() ? Status{} : compare_pcrs(log, options);
}

}  // namespace

void add_attest_log(CLI::App& app, Line& line) {
  CLI::App* attest = noun(app, "attest", "what a VM's TPM says of its boot");
  CLI::App* log = attest->add_subcommand("log", "an event log in words, with the PCRs it leads to");
  auto options = std::make_shared<LogOptions>();
  log->add_option("file", options->file,
                  "such as /sys/kernel/security/tpm0/binary_bios_measurements of a guest")
      ->type_name(kFileWord)
      ->required();
  log->add_option("--bank", options->bank, "only this bank")
      ->check(CLI::IsMember({"sha1", "sha256", "sha384", "sha512"}));
  log->add_option("--pcrs", options->pcrs,
                  "compare with PCR values: a JSON file {\"pcrs\": {BANK: {PCR: HEX}}}")
      ->type_name(kFileWord);
  log->add_flag("--json", options->json, "as -o json");
  verb(log, line, [options](const Context& context) { return attest_log(context, *options); });
}

}  // namespace hf::cli
