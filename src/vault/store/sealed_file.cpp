#include "vault/store/sealed_file.h"

#include <algorithm>

#include "base/crc32c.h"
#include "crypto/crypto.h"
#include "vault/protocol/protocol.h"

namespace hf::vault {
namespace {

constexpr uint32_t kFileMagic = 0x46564648;  // "HFVF"
constexpr uint16_t kFileVersion = 1;
constexpr size_t kSaltSize = 32;
constexpr size_t kFileHeaderSize = 48;
constexpr size_t kCrcSize = 4;

crypto::Aead file_aead(const crypto::Secret& kek, ByteSpan salt) {
  return crypto::Aead(
      crypto::hkdf_sha256(kek.span(), salt, "holdfast vault file v1", crypto::kKeySize));
}

Error damaged(const std::string& name, std::string_view how) {
  return Error{.code = ErrorCode::kCorrupt,
               .cause = name + " " + std::string(how),
               .effect = "nothing in it is used, and nothing was changed",
               .mend = "restore " + name + " from a copy of the vault's directory"};
}

}  // namespace

Bytes seal_file(FileKind kind, const crypto::Secret& kek, ByteSpan clear, ByteSpan plaintext,
                Rng& rng) {
  std::byte salt[kSaltSize];
  rng.fill(salt);
  Writer out;
  out.u32(kFileMagic);
  out.u16(kFileVersion);
  out.u16(static_cast<uint16_t>(kind));
  out.u32(static_cast<uint32_t>(clear.size()));
  out.u32(static_cast<uint32_t>(plaintext.size() + crypto::kTagSize));
  out.raw(salt);
  out.raw(clear);
  Bytes sealed(plaintext.size() + crypto::kTagSize);
  file_aead(kek, salt).seal(crypto::Nonce{}, out.bytes(), plaintext, sealed);
  out.raw(sealed);
  out.u32(crc32c(out.bytes()));
  HF_ASSERT(out.bytes().size() <= (kind == FileKind::kTitle ? kTitleFileMax : kSealedFileMax));
  return out.take();
}

Result<ParsedFile> parse_file(FileKind kind, ByteSpan bytes, const std::string& name) {
  if (bytes.size() < kFileHeaderSize + crypto::kTagSize + kCrcSize) {
    return damaged(name, "is cut off");
  }
  const size_t body = bytes.size() - kCrcSize;
  Reader reader(bytes.first(body));
  if (reader.u32() != kFileMagic) return damaged(name, "is not a file of the vault");
  const uint16_t version = reader.u16();
  const uint16_t file_kind = reader.u16();
  const uint32_t clear_size = reader.u32();
  const uint32_t sealed_size = reader.u32();
  // Before the version is believed: a flipped bit in it is damage, not a newer format.
  if (load_le<uint32_t>(bytes.data() + body) != crc32c(bytes.first(body))) {
    return damaged(name, "is cut off or damaged (its checksum differs)");
  }
  if (version != kFileVersion) {
    return Error{.code = ErrorCode::kUnsupported,
                 .cause = name + " has a format that this version does not know",
                 .effect = "nothing was changed",
                 .mend = "use the version of Holdfast that wrote it"};
  }
  ParsedFile file{
      .whole = bytes.first(body), .salt = reader.raw(kSaltSize), .clear = {}, .sealed = {}};
  file.clear = reader.raw(clear_size);
  file.sealed = reader.raw(sealed_size);
  if (!reader.finish(name).ok() || sealed_size < crypto::kTagSize) {
    return damaged(name, "has lengths that do not add up");
  }
  if (file_kind != static_cast<uint16_t>(kind)) {
    return damaged(name, "is a file of another kind under this name");
  }
  return file;
}

Result<crypto::Secret> open_file(const ParsedFile& file, const crypto::Secret& kek,
                                 const std::string& name) {
  crypto::Secret plaintext(file.sealed.size() - crypto::kTagSize);
  const ByteSpan aad = file.whole.first(kFileHeaderSize + file.clear.size());
  if (!file_aead(kek, file.salt)
           .open(crypto::Nonce{}, aad, file.sealed, plaintext.mutable_span())
           .ok()) {
    return damaged(name, "was altered, or was written by another vault");
  }
  return plaintext;
}

}  // namespace hf::vault
