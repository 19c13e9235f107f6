#include "vault/store/site_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>

#include "vault/protocol/protocol.h"
#include "vault/store/sealed_file.h"

namespace hf::vault {
namespace {

constexpr size_t kKdfSaltSize = 32;
constexpr size_t kCheckSize = 16;
constexpr size_t kSeedSize = 32;
constexpr uint32_t kCaValidDays = 30 * 365;
constexpr std::string_view kNotOpened = "the vault was not opened; nothing was changed";

// The clear part of site.hfv (docs/formats/vault.md, "site.hfv").
struct SiteHeader {
  UnlockKind unlock = UnlockKind::kHostSecret;
  crypto::ScryptCost scrypt;
  std::array<std::byte, kKdfSaltSize> kdf_salt{};
  std::array<std::byte, kCheckSize> check{};
  Micros created;
  SiteIdentity identity;
};

Bytes encode_header(const SiteHeader& header) {
  Writer out;
  out.u8(static_cast<uint8_t>(header.unlock));
  out.u64(header.scrypt.n);
  out.u32(header.scrypt.r);
  out.u32(header.scrypt.p);
  out.raw(header.kdf_salt);
  out.raw(header.check);
  out.u64(header.created.value);
  encode(out, header.identity);
  return out.take();
}

Result<SiteHeader> decode_site_header(ByteSpan bytes) {
  Reader reader(bytes);
  SiteHeader header;
  switch (reader.u8()) {
    case static_cast<uint8_t>(UnlockKind::kHostSecret):
      header.unlock = UnlockKind::kHostSecret;
      break;
    case static_cast<uint8_t>(UnlockKind::kSecretFile):
      header.unlock = UnlockKind::kSecretFile;
      break;
    default:
      reader.fail();
  }
  header.scrypt = {.n = reader.u64(), .r = reader.u32(), .p = reader.u32()};
  const ByteSpan salt = reader.raw(kKdfSaltSize);
  std::copy(salt.begin(), salt.end(), header.kdf_salt.begin());
  const ByteSpan check = reader.raw(kCheckSize);
  std::copy(check.begin(), check.end(), header.check.begin());
  header.created = Micros(reader.u64());
  header.identity = decode_site_identity(reader);
  TRY(reader.finish(kSiteFileName));
  return header;
}

std::array<std::byte, kCheckSize> check_of(const crypto::Secret& root) {
  const Digest mac = crypto::hmac_sha256(root.span(), as_bytes("holdfast vault secret check v1"));
  std::array<std::byte, kCheckSize> check;
  std::copy_n(mac.bytes.begin(), kCheckSize, check.begin());
  return check;
}

// A secret file is text as people write it: one newline at its end does not count.
Result<crypto::Secret> read_secret_file(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
  if (fd < 0) {
    return errno_error(errno, "open the secret file " + path)
        .with_effect(std::string(kNotOpened))
        .with_mend(
            "put the file with the vault's secret there, or name another with --secret-file");
  }
  const sys::UniqueFd file(fd);
  TRY(check_private_file(fd, path, true));
  struct stat status{};
  if (::fstat(fd, &status) != 0) return errno_error(errno, "stat " + path);
  const auto size = static_cast<uint64_t>(status.st_size);
  const auto bad_size = [&] {
    return Error{.code = ErrorCode::kInvalidArgument,
                 .cause = fmt::format("the secret file {} must hold {} to {} bytes", path,
                                      kSecretFileMin, kSecretFileMax),
                 .effect = std::string(kNotOpened),
                 .mend = "name the file that holds the vault's secret with --secret-file"};
  };
  if (size < kSecretFileMin || size > kSecretFileMax) return bad_size();
  crypto::Secret content(size);
  TRY_CONTEXT(sys::pread_exact(fd, 0, content.mutable_span()), "read " + path);
  const bool newline = content.span().back() == std::byte{'\n'};
  if (size - (newline ? 1 : 0) < kSecretFileMin) return bad_size();
  return newline ? crypto::Secret::copy_of(content.span().first(size - 1)) : std::move(content);
}

Result<crypto::Secret> read_host_secret(const Directory& directory) {
  const std::string path = directory.path() + "/" + std::string(kHostSecretName);
  Result<crypto::Secret> secret =
      directory.read_secret(std::string(kHostSecretName), kHostSecretSize);
  if (!secret.ok()) {
    return std::move(secret)
        .error()
        .with_effect(std::string(kNotOpened))
        .with_mend("restore " + path + " from where the vault's directory was copied to");
  }
  if (secret->size() != kHostSecretSize) {
    return Error{.code = ErrorCode::kCorrupt,
                 .cause = fmt::format("{} has {} bytes instead of {}", path, secret->size(),
                                      kHostSecretSize),
                 .effect = std::string(kNotOpened),
                 .mend = "restore it from where the vault's directory was copied to"};
  }
  return secret;
}

Result<crypto::Secret> root_key(const SiteHeader& header, const crypto::Secret& secret) {
  if (header.unlock == UnlockKind::kHostSecret) {
    return crypto::hkdf_sha256(secret.span(), header.kdf_salt, "holdfast vault root v1",
                               crypto::kKeySize);
  }
  return crypto::scrypt(secret.span(), header.kdf_salt, header.scrypt, crypto::kKeySize);
}

// The sealed part: KEK, signing seed, then both private keys as length and PKCS #8.
crypto::Secret encode_private(const crypto::Secret& kek, const crypto::Secret& seed,
                              const crypto::Secret& recipient, const crypto::Secret& ca) {
  crypto::Secret out(kek.size() + seed.size() + 8 + recipient.size() + ca.size());
  std::byte* at = out.mutable_span().data();
  for (const crypto::Secret* plain : {&kek, &seed}) {
    at = std::copy(plain->span().begin(), plain->span().end(), at);
  }
  for (const crypto::Secret* pkcs8 : {&recipient, &ca}) {
    store_le<uint32_t>(at, static_cast<uint32_t>(pkcs8->size()));
    at = std::copy(pkcs8->span().begin(), pkcs8->span().end(), at + 4);
  }
  HF_ASSERT(at == out.mutable_span().data() + out.size());
  return out;
}

Result<SiteKeys> decode_private(const SiteHeader& header, const crypto::Secret& plain) {
  Reader reader(plain.span());
  const ByteSpan kek = reader.raw(crypto::kKeySize);
  const ByteSpan seed = reader.raw(kSeedSize);
  const ByteSpan recipient = reader.blob(kMaxPem);
  const ByteSpan ca = reader.blob(kMaxPem);
  TRY(reader.finish(kSiteFileName));
  SiteKeys keys{.identity = header.identity,
                .unlock = header.unlock,
                .created = header.created,
                .kek = crypto::Secret::copy_of(kek),
                .signing = crypto::SigningKey(crypto::Secret::copy_of(seed)),
                .recipient = TRY(crypto::KeyPair::from_pkcs8(recipient)),
                .ca_key = TRY(crypto::KeyPair::from_pkcs8(ca)),
                .ca = TRY(crypto::Certificate::from_pem(header.identity.ca_certificate_pem))};
  // Both parts are authenticated together; these hold unless create_site() has a fault.
  HF_ASSERT(keys.signing.public_key() == keys.identity.signing_public_key);
  HF_ASSERT(keys.recipient.public_key().to_pem() == keys.identity.recipient_public_key_pem);
  return keys;
}

}  // namespace

bool is_site_name(std::string_view name) {
  if (name.empty() || name.size() > kMaxName) return false;
  return std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '_' || c == '-';
  });
}

bool is_peer_name(std::string_view name) {
  return is_site_name(name) && name.front() != '-' && !SiteId::parse_hex(name).ok();
}

Result<SiteIdentity> create_site(Directory& directory, const std::string& name,
                                 const SiteSecret& secret, Clock& clock, Rng& rng) {
  HF_ASSERT(is_site_name(name));
  SiteHeader header;
  header.created = clock.wall_time();
  rng.fill(header.kdf_salt);
  rng.fill(header.identity.site.bytes);
  crypto::Secret opener;
  if (secret.secret_file.has_value()) {
    header.unlock = UnlockKind::kSecretFile;
    header.scrypt = secret.scrypt;
    opener = TRY(read_secret_file(*secret.secret_file));
  } else {
    opener = crypto::Secret(kHostSecretSize);
    rng.fill(opener.mutable_span());
  }
  const crypto::Secret root = TRY(root_key(header, opener));
  header.check = check_of(root);

  crypto::Secret kek(crypto::kKeySize);
  crypto::Secret seed(kSeedSize);
  rng.fill(kek.mutable_span());
  rng.fill(seed.mutable_span());
  const crypto::SigningKey signing(seed);
  const crypto::KeyPair recipient = crypto::KeyPair::generate_rsa(kRecipientKeyBits);
  const crypto::KeyPair ca_key = crypto::KeyPair::generate_ec(crypto::KeyKind::kEcP256);
  header.identity.name = name;
  header.identity.signing_public_key = signing.public_key();
  header.identity.recipient_public_key_pem = recipient.public_key().to_pem();
  // Two sites may have one name; the id keeps their CAs' names apart.
  const std::string ca_name =
      "Holdfast CA " + name.substr(0, 32) + " " + header.identity.site.hex().substr(0, 16);
  header.identity.ca_certificate_pem =
      crypto::make_ca(ca_key,
                      {.common_name = ca_name, .now = header.created, .valid_days = kCaValidDays})
          .to_pem();
  const crypto::Secret plain = encode_private(kek, seed, recipient.to_pkcs8(), ca_key.to_pkcs8());
  const Bytes file = seal_file(FileKind::kSite, root, encode_header(header), plain.span(), rng);
  if (header.unlock == UnlockKind::kHostSecret) {
    TRY(directory.replace(std::string(kHostSecretName), opener.span()));
  }
  TRY(directory.create(std::string(kSiteFileName), file));
  return header.identity;
}

Result<SiteKeys> open_site(const Directory& directory, const SiteSecret& secret) {
  const std::string path = directory.path() + "/" + std::string(kSiteFileName);
  Result<Bytes> bytes = directory.read(std::string(kSiteFileName), kSealedFileMax);
  if (!bytes.ok() && bytes.error().code == ErrorCode::kNotFound) {
    return Error{.code = ErrorCode::kNotFound,
                 .cause = "there is no vault in " + directory.path() + " (no site.hfv)",
                 .effect = std::string(kNotOpened),
                 .mend = "create one with holdfast-vault --init --dir " + directory.path() +
                         " --name SITE, or restore site.hfv from a copy"};
  }
  if (!bytes.ok()) return std::move(bytes).error();
  const ParsedFile file = TRY(parse_file(FileKind::kSite, *bytes, path));
  const SiteHeader header = TRY(decode_site_header(file.clear));
  const bool by_file = header.unlock == UnlockKind::kSecretFile;
  if (by_file != secret.secret_file.has_value()) {
    return Error{
        .code = ErrorCode::kInvalidArgument,
        .cause = by_file ? "this vault is opened by a secret file, and none was given"
                         : "this vault is opened by its host.secret, not by a secret file",
        .effect = std::string(kNotOpened),
        .mend = by_file ? "start it with --secret-file FILE" : "start it without --secret-file"};
  }
  const crypto::Secret opener =
      by_file ? TRY(read_secret_file(*secret.secret_file)) : TRY(read_host_secret(directory));
  const crypto::Secret root = TRY(root_key(header, opener));
  if (!crypto::constant_time_equal(check_of(root), header.check)) {
    return Error{.code = ErrorCode::kWrongKey,
                 .cause = by_file ? "the secret in " + *secret.secret_file +
                                        " is not the one this vault was made with"
                                  : directory.path() + "/host.secret does not belong to this vault",
                 .effect = std::string(kNotOpened),
                 .mend = by_file ? "put the right secret into that file, then holdfast site start"
                                 : "restore host.secret from the copy made with this site.hfv"};
  }
  const crypto::Secret plain = TRY(open_file(file, root, path));
  return decode_private(header, plain);
}

}  // namespace hf::vault
