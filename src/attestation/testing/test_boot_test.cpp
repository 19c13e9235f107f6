#include <fmt/format.h>
#include <gtest/gtest.h>

#include <map>

#include "attestation/boot/known_measurements.h"
#include "attestation/log/variable_data.h"
#include "attestation/testing/test_boot.h"
#include "crypto/x509.h"
#include "secure_boot/keys/signature_list.h"

namespace hf::attestation {
namespace {

using secure_boot::SignatureDatabase;
using enum EventType;

Bytes database_of(const std::vector<std::string>& names) {
  SignatureDatabase database;
  for (const std::string& name : names) {
    database.append(SignatureDatabase::of_certificate(secure_boot::guids::kMicrosoft,
                                                      test_certificate(name).der));
  }
  return database.to_bytes();
}

Bytes revocations_of(const std::vector<std::string>& texts) {
  std::vector<Digest> digests;
  for (const std::string& text : texts) {
    Digest digest;
    HashValue value = hash(HashAlg::kSha256, as_bytes(text));
    std::ranges::copy(value.bytes(), digest.bytes.begin());
    digests.push_back(digest);
  }
  if (digests.empty()) return {};
  return SignatureDatabase::of_sha256(secure_boot::guids::kMicrosoft, digests).to_bytes();
}

// Writes the log; a mark of the keeper's is in the record only.
class Firmware {
 public:
  explicit Firmware(const TestBoot& boot) : boot_(boot), log_(boot.banks) {}

  LogWriter run() {
    log_.add(0, kSCrtmVersion, LogWriter::utf16("edk2"));
    log_.add(0, kEfiPlatformFirmwareBlob, Bytes(16, std::byte{7}), as_bytes(boot_.firmware));
    keys();
    boot_variables();
    if (boot_.network_boot_tried) {
      log_.action(4, "Calling EFI Application from Boot Option");
      separators();
      log_.action(4, "Returning from EFI Application from Boot Option");
      log_.action(4, "Calling EFI Application from Boot Option");
    } else {
      log_.action(4, "Calling EFI Application from Boot Option");
      separators();
    }
    log_.add(5, kEfiGptEvent, as_bytes(boot_.disk_layout));
    load(boot_.shim);
    shim();
    load(boot_.grub);
    loader();
    log_.action(5, "Exit Boot Services Invocation");
    log_.action(5, "Exit Boot Services Returned with Success");
    return std::move(log_);
  }

 private:
  void separators() {
    for (uint32_t pcr = 0; pcr < 7; ++pcr) log_.separator(pcr);
  }

  void keys() {
    std::byte on[] = {boot_.secure_boot ? std::byte{1} : std::byte{0}};
    log_.variable(7, kEfiVariableDriverConfig, secure_boot::guids::kGlobalVariable, "SecureBoot",
                  on);
    KeyVariables variables = boot_.variables();
    for (const char* name : {"PK", "KEK", "db", "dbx"}) {
      log_.variable(7, kEfiVariableDriverConfig, vendor_of(name), name, variables[name]);
    }
    log_.separator(7);
  }

  void boot_variables() {
    Bytes order;
    for (size_t i = 0; i < boot_.boot_order.size(); ++i) {
      order.push_back(static_cast<std::byte>(i));
      order.push_back(std::byte{0});
    }
    log_.variable(1, kEfiVariableBoot, secure_boot::guids::kGlobalVariable, "BootOrder", order);
    for (const std::string& option : boot_.boot_order) {
      log_.variable(1, kEfiVariableBoot, secure_boot::guids::kGlobalVariable, "Boot0000",
                    LogWriter::utf16(option));
    }
  }

  void load(const TestProgram& program) {
    if (boot_.secure_boot) vouch(program);
    log_.image(4, LogWriter::file_path(program.path), as_bytes(program.content));
  }

  void vouch(const TestProgram& program) {
    const Bytes& der = test_certificate(program.signer).der;
    Bytes content;
    if (program.vouched_by != "Shim") {
      content.assign(secure_boot::guids::kMicrosoft.bytes.begin(),
                     secure_boot::guids::kMicrosoft.bytes.end());
    }
    content.insert(content.end(), der.begin(), der.end());
    std::string key = program.vouched_by + program.signer;
    if (measured_[key]++ > 0) return;  // each certificate is measured once
    log_.variable(7, kEfiVariableAuthority, vendor_of(program.vouched_by), program.vouched_by,
                  content);
  }

  void shim() {
    log_.add(14, kIpl, as_bytes({"MokList\0", 8}), boot_.mok_list());
    if (!boot_.shim_validation) {
      std::byte off[] = {std::byte{1}};
      log_.variable(7, kEfiVariableAuthority, secure_boot::guids::kShimLock, "MokSBState", off);
    }
    log_.variable(7, kEfiVariableAuthority, secure_boot::guids::kShimLock, "SbatLevel",
                  as_bytes(boot_.sbat_level));
  }

  void loader() {
    log_.grub_file("(hd0,gpt2)/boot/grub/grub.cfg",
                   as_bytes("grub.cfg for " + boot_.kernel_path + boot_.grub_config));
    log_.grub_file("(hd0,gpt2)/boot/grub/grubenv", as_bytes(boot_.grub_environment));
    log_.grub_text("grub_cmd", "set root=hd0,gpt2");
    for (const std::string& command : boot_.grub_commands) log_.grub_text("grub_cmd", command);
    std::string line = boot_.kernel_path + " " + boot_.parameters;
    log_.grub_text("grub_cmd", "linux " + line);
    log_.grub_file(boot_.kernel_path, as_bytes(boot_.kernel.content));
    log_.grub_text("kernel_cmdline", line);
    if (!boot_.second_command_line.empty()) {
      log_.grub_text("kernel_cmdline", boot_.second_command_line);
    }
    log_.grub_file("/boot/initrd.img", as_bytes(boot_.initrd));
    load(boot_.kernel);
    if (boot_.extension_pcr) log_.add(*boot_.extension_pcr, kIpl, as_bytes("extension"));
  }

  const TestBoot& boot_;
  LogWriter log_;
  std::map<std::string, int> measured_;
};

Extend extend_of(uint64_t n, uint8_t pcr, const std::vector<HashAlg>& banks, ByteSpan bytes) {
  Extend extend{.n = n, .pcr = pcr, .time = Micros(1000 + n)};
  for (HashAlg alg : banks) {
    HashValue value = hash(alg, bytes);
    extend.digests.push_back({.alg = alg, .bytes = {value.bytes().begin(), value.bytes().end()}});
  }
  return extend;
}

}  // namespace

const TestCertificate& test_certificate(std::string_view name) {
  static std::map<std::string, TestCertificate, std::less<>> made;
  auto found = made.find(name);
  if (found != made.end()) return found->second;
  static const crypto::KeyPair key = crypto::KeyPair::generate_ec(crypto::KeyKind::kEcP256);
  crypto::Certificate certificate = crypto::make_ca(
      key,
      {.common_name = std::string(name), .now = Micros(1'700'000'000'000'000), .valid_days = 3650});
  return made.emplace(name, TestCertificate{std::string(name), certificate.to_der()}).first->second;
}

Bytes TestBoot::mok_list() const {
  Bytes list = database_of(mok);
  Bytes own = database_of({"Debian Secure Boot CA"});
  list.insert(list.end(), own.begin(), own.end());
  return list;
}

KeyVariables TestBoot::variables() const {
  KeyVariables variables;
  variables["PK"] = database_of({"Platform Key"});
  variables["KEK"] = database_of(kek);
  variables["db"] = database_of(db);
  variables["dbx"] = revocations_of(dbx);
  if (!mok.empty()) variables["MokList"] = database_of(mok);
  return variables;
}

std::vector<FileExplanation> TestBoot::files() const {
  std::vector<FileExplanation> files;
  auto add = [&](std::string_view content, std::string what, std::string path,
                 std::vector<std::string> signers) {
    HashValue digest = hash(banks.front(), as_bytes(content));
    files.push_back({.digest = {digest.bytes().begin(), digest.bytes().end()},
                     .what = std::move(what),
                     .path = std::move(path),
                     .signers = std::move(signers)});
  };
  for (const TestProgram* program : {&shim, &grub, &kernel}) {
    add(program->content, program->what, program->path, {program->signer});
  }
  add(grub_environment, "GRUB's environment", "boot/grub/grubenv", {});
  add(initrd, "the initial RAM disk", "boot/initrd.img", {});
  return files;
}

TestEvidence::TestEvidence(const TestBoot& boot)
    : log_bytes(Firmware(boot).run().bytes()), variables(boot.variables()), files(boot.files()) {
  parse_log();
  record.boot_id = "00000000000000aa";
  record.started = Micros(1000);
  for (const std::string& mark : boot.marks) {
    record.extends.push_back(extend_of(record.extends.size(), 6, boot.banks, as_bytes(mark)));
  }
  for (const Event& event : log->events()) {
    if (!event.measured()) continue;
    Extend extend{.n = record.extends.size(), .pcr = static_cast<uint8_t>(event.pcr)};
    for (HashAlg alg : boot.banks) {
      ByteSpan digest = event.digest(alg);
      extend.digests.push_back({.alg = alg, .bytes = {digest.begin(), digest.end()}});
    }
    if (is_exit_boot_services(extend.pcr, extend.digests)) record.exit_boot_services = extend.n;
    record.extends.push_back(std::move(extend));
  }
  for (const std::string& text : boot.after) {
    record.extends.push_back(extend_of(record.extends.size(), 11, boot.banks, as_bytes(text)));
  }
  record.total = record.extends.size();
  quote_record();
}

void TestEvidence::parse_log() {
  Result<EventLog> parsed = EventLog::parse(log_bytes);
  EXPECT_TRUE(parsed.ok()) << (parsed.ok() ? "" : parsed.error().cause);
  log = std::move(*parsed);
}

void TestEvidence::quote_record() {
  quote.ak_name = Bytes(34, std::byte{0x11});
  quote.clock = {.clock_ms = 5000, .reset_count = 7, .restart_count = 0, .safe = true};
  quote.banks.clear();
  for (const PcrDigest& digest : record.extends.front().digests) {
    Result<PcrBank> bank = replay(record, digest.alg);
    PcrValues values{.bank = digest.alg};
    for (uint8_t pcr = 0; pcr < 16; ++pcr) {
      values.values[pcr] = Bytes(bank->value(pcr).begin(), bank->value(pcr).end());
    }
    quote.banks.push_back(std::move(values));
  }
}

AppraisalInput TestEvidence::input(const Policy& policy, const Baseline* baseline) const {
  AppraisalInput input;
  input.log = &*log;
  input.record = &record;
  input.quote = &quote;
  input.variables = &variables;
  input.files = files;
  input.policy = &policy;
  input.baseline = baseline;
  input.context.pinned_ak_name = quote.ak_name;
  input.context.now = Micros(2'000'000);
  return input;
}

AppraisalInput TestEvidence::by_record(const Policy& policy, const Baseline* baseline) const {
  AppraisalInput only = input(policy, baseline);
  only.log = nullptr;
  only.quote = nullptr;
  return only;
}

AppraisalInput TestEvidence::by_log(const Policy& policy, const Baseline* baseline) const {
  AppraisalInput only = input(policy, baseline);
  only.record = nullptr;
  only.variables = nullptr;
  only.files = {};
  return only;
}

Baseline test_baseline(const TestBoot& boot) {
  TestEvidence evidence(boot);
  auto measured =
      MeasuredBoot::from({.log = &*evidence.log, .record = &evidence.record}, boot.banks.front());
  Baseline baseline;
  auto learned = learn(*measured, Explanations{evidence.files}, evidence.record.boot_id, Micros(1));
  EXPECT_TRUE(learned.ok());
  accept(baseline, std::move(*learned), AcceptMode::kReplace);
  return baseline;
}

Baseline test_baseline_by_record(const TestBoot& boot) {
  TestEvidence evidence(boot);
  auto measured = MeasuredBoot::from({.record = &evidence.record, .variables = &evidence.variables},
                                     boot.banks.front());
  Baseline baseline;
  auto learned = learn(*measured, {}, evidence.record.boot_id, Micros(1));
  EXPECT_TRUE(learned.ok());
  accept(baseline, std::move(*learned), AcceptMode::kReplace);
  return baseline;
}

const Reason* find_reason(const Appraisal& appraisal, std::string_view code) {
  auto found = std::ranges::find(appraisal.reasons, code, &Reason::code);
  return found == appraisal.reasons.end() ? nullptr : &*found;
}

bool has_reason(const Appraisal& appraisal, std::string_view code) {
  return find_reason(appraisal, code) != nullptr;
}

std::string told(const Appraisal& appraisal) {
  std::string text(name_of(appraisal.verdict));
  for (const Reason& reason : appraisal.reasons) {
    text += fmt::format("\n  {} {}: {}", name_of(reason.severity), reason.code, reason.words);
  }
  return text;
}

}  // namespace hf::attestation
