// A boot made up for tests: what is in the variables, who signed what, what is on the disk; and the
// event log, the keeper's record and the quote that such a boot leaves.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "attestation/appraisal/appraisal.h"
#include "attestation/log/event_log.h"
#include "attestation/testing/log_writer.h"

namespace hf::attestation {

struct TestCertificate {
  std::string name;
  Bytes der;
};
// Made once for each name.
const TestCertificate& test_certificate(std::string_view name);

struct TestProgram {
  std::string what;  // "GRUB"
  std::string path;
  std::string content;  // its bytes
  std::string signer;
  std::string vouched_by =
      "db";  // where the certificate that vouches for it is: db, Shim, MokListRT
};

struct TestBoot {
  bool secure_boot = true;
  std::vector<std::string> kek = {"Test-free KEK"};
  std::vector<std::string> db = {"Microsoft Windows Production PCA 2011",
                                 "Microsoft Corporation UEFI CA 2011"};
  std::vector<std::string> dbx = {"revoked 1"};  // texts whose SHA-256 is revoked
  std::vector<std::string> mok;                  // certificates enrolled
  bool shim_validation = true;
  std::string firmware = "firmware volume 1";
  std::string sbat_level = "sbat,1,2022052400\ngrub,2\n";
  TestProgram shim = {"shim", "EFI/debian/shimx64.efi", "MZ shim",
                      "Microsoft Corporation UEFI CA 2011"};
  TestProgram grub = {"GRUB", "EFI/debian/grubx64.efi", "MZ grub", "Debian Secure Boot CA", "Shim"};
  TestProgram kernel = {"Linux", "boot/vmlinuz-6.1.0-43-amd64", "MZ kernel 43",
                        "Debian Secure Boot CA", "Shim"};
  std::string kernel_path = "/boot/vmlinuz-6.1.0-43-amd64";
  std::string parameters = "root=/dev/vda2 ro quiet";
  std::string second_command_line;  // measured after the first, if not empty
  std::string initrd = "initrd 43";
  std::string grub_config;                 // more of grub.cfg
  std::vector<std::string> grub_commands;  // of that, run before a kernel is loaded
  std::string grub_environment = "# GRUB Environment Block\n";
  std::vector<std::string> boot_order = {"disk"};
  std::string disk_layout = "1 GiB";
  bool network_boot_tried = false;       // firmware tried another boot option first
  std::vector<std::string> marks;        // of the keeper in PCR 6, before firmware
  std::optional<uint8_t> extension_pcr;  // an EV_IPL there, last of the loader
  std::vector<std::string> after;        // what the operating system extends into PCR 11
  std::vector<HashAlg> banks = {HashAlg::kSha256};

  Bytes mok_list() const;          // as shim measures it and hands it on: with its own certificate
  KeyVariables variables() const;  // as the variable store has them
  std::vector<FileExplanation> files() const;  // as the preflight reads the disk
};

// What it leaves. Everything lives here.
struct TestEvidence {
  explicit TestEvidence(const TestBoot& boot);
  Bytes log_bytes;
  std::optional<EventLog> log;
  ExtendRecord record;
  QuotedPcrs quote;
  KeyVariables variables;
  std::vector<FileExplanation> files;

  void parse_log();     // again, after log_bytes was changed
  void quote_record();  // again, after the record was changed
  AppraisalInput input(const Policy& policy, const Baseline* baseline) const;  // all of it
  AppraisalInput by_record(const Policy& policy, const Baseline* baseline) const;
  AppraisalInput by_log(const Policy& policy, const Baseline* baseline) const;  // and quote
};

// Learned from the boot with log, record and files.
Baseline test_baseline(const TestBoot& boot);
Baseline test_baseline_by_record(const TestBoot& boot);  // without log and files
bool has_reason(const Appraisal& appraisal, std::string_view code);
const Reason* find_reason(const Appraisal& appraisal, std::string_view code);
std::string told(const Appraisal& appraisal);  // for messages

}  // namespace hf::attestation
