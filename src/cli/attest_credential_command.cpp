// holdfast attest make-credential: a secret that only the TPM with this endorsement key can open,
// and only while it holds the attestation key with this name. For enrolling keys of TPMs that are
// not ours; a site's own VMs are enrolled by its vault.
#include <fcntl.h>
#include <unistd.h>

#include <CLI/CLI.hpp>

#include "attestation/tpm/credential.h"
#include "attestation/tpm/quote.h"
#include "cli/core/grammar.h"
#include "cli/core/input.h"
#include "sys/fd.h"

namespace hf::cli {
namespace {

constexpr size_t kSecretMax = 64;
// What tpm2_makecredential writes and tpm2_activatecredential reads: magic, version, big-endian,
// then the two structures.
constexpr uint32_t kFileMagic = 0xBADCC0DE;
constexpr uint32_t kFileVersion = 1;

struct CredentialOptions {
  std::string ek;
  std::string ak;
  std::string secret;
  std::string out;
};

Result<attestation::TpmPublic> read_public(const std::string& path) {
  const Bytes bytes = TRY(read_input(path, attestation::kPublicAreaMax));
  Result<attestation::TpmPublic> key = attestation::parse_public(bytes);
  if (!key.ok()) {
    return std::move(key)
        .error()
        .context(path)
        .with_effect("no credential was made")
        .with_mend(
            "give the public area in TSS form: tpm2_createek -u, tpm2_createak -u, tpm2_readpublic "
            "-o");
  }
  return key;
}

Status write_output(const std::string& path, ByteSpan bytes) {
  const sys::UniqueFd file(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  if (!file) return errno_error(errno, "create " + path);
  if (::write(file.get(), bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size())) {
    return errno_error(errno, "write " + path);
  }
  return {};
}

Status make(const CredentialOptions& options) {
  const attestation::TpmPublic ek = TRY(read_public(options.ek));
  const attestation::TpmPublic ak = TRY(read_public(options.ak));
  TRY(attestation::check_attestation_key(ak));
  const Bytes secret = TRY(read_input(options.secret, kSecretMax));
  const attestation::Credential credential = TRY(attestation::make_credential(ek, ak.name, secret));
  Bytes file(8);
  store_be(file.data(), kFileMagic);
  store_be(file.data() + 4, kFileVersion);
  file.insert(file.end(), credential.id_object.begin(), credential.id_object.end());
  file.insert(file.end(), credential.encrypted_secret.begin(), credential.encrypted_secret.end());
  return write_output(options.out, file);
}

}  // namespace

void add_attest_credential(CLI::App& app, Line& line) {
  CLI::App* sub = noun(app, "attest", "what a VM's TPM says of its boot")
                      ->add_subcommand("make-credential",
                                       "enrol another TPM's attestation key: a secret that only "
                                       "that TPM opens (tpm2_activatecredential)");
  auto options = std::make_shared<CredentialOptions>();
  sub->add_option("--ek", options->ek, "the TPM's endorsement key, public area (a file)")
      ->type_name(kFileWord)
      ->required();
  sub->add_option("--ak", options->ak, "the attestation key, public area (a file)")
      ->type_name(kFileWord)
      ->required();
  sub->add_option("--secret", options->secret, "the secret (a file, or -)")
      ->type_name(kFileWord)
      ->required();
  sub->add_option("--out", options->out, "where the credential goes (a file)")
      ->type_name(kFileWord)
      ->required();
  verb(sub, line, [options](const Context&) { return make(*options); });
}

}  // namespace hf::cli
