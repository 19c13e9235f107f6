#include "secure_boot/keys/signature_list.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <unordered_set>

#include "crypto/crypto.h"
#include "secure_boot/efi/efi_time.h"
#include "secure_boot/keys/certificate.h"

namespace hf::secure_boot {
namespace {

constexpr size_t kListSizeAt = 16, kHeaderSizeAt = 20, kSignatureSizeAt = 24;
static_assert(kSignatureSizeAt + 4 == kSignatureListHeaderSize);

// Size of the data of each known type; 0: any.
struct KnownType {
  Guid type;
  size_t data_size;
};
constexpr std::array<KnownType, 12> kKnown = {{
    {guids::kSha256, 32},
    {guids::kRsa2048, 256},
    {guids::kRsa2048Sha256, 256},
    {guids::kSha1, 20},
    {guids::kRsa2048Sha1, 256},
    {guids::kX509, 0},
    {guids::kSha224, 28},
    {guids::kSha384, 48},
    {guids::kSha512, 64},
    {guids::kX509Sha256, 32 + EfiTime::kSize},
    {guids::kX509Sha384, 48 + EfiTime::kSize},
    {guids::kX509Sha512, 64 + EfiTime::kSize},
}};

bool is_digest(const Guid& type) {
  return type == guids::kSha1 || type == guids::kSha224 || type == guids::kSha256 ||
         type == guids::kSha384 || type == guids::kSha512;
}

Error corrupt(size_t list, std::string what) {
  return Error{.code = ErrorCode::kCorrupt,
               .cause = fmt::format("signature list {}: {}", list, what)};
}

Result<SignatureList> parse_list(ByteSpan bytes, size_t number, size_t& list_size) {
  if (bytes.size() < kSignatureListHeaderSize) {
    return corrupt(number, fmt::format("{} bytes are too few for its header", bytes.size()));
  }
  list_size = load_le<uint32_t>(&bytes[kListSizeAt]);
  const size_t header_size = load_le<uint32_t>(&bytes[kHeaderSizeAt]);
  SignatureList list{.type = Guid::load(bytes.data()),
                     .signature_size = load_le<uint32_t>(&bytes[kSignatureSizeAt])};
  if (list_size < kSignatureListHeaderSize || list_size > bytes.size()) {
    return corrupt(number, fmt::format("its size {} is not within the {} bytes that are left",
                                       list_size, bytes.size()));
  }
  if (header_size > list_size - kSignatureListHeaderSize) {
    return corrupt(number,
                   fmt::format("its header of {} bytes is longer than itself", header_size));
  }
  bytes = bytes.first(list_size).subspan(kSignatureListHeaderSize);
  list.header.assign(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(header_size));
  bytes = bytes.subspan(header_size);
  if (list.signature_size < Guid::kSize) {
    return corrupt(number, fmt::format("a signature of {} bytes has no room for its owner",
                                       list.signature_size));
  }
  if (bytes.size() % list.signature_size != 0) {
    return corrupt(number, fmt::format("{} bytes are not whole signatures of {}", bytes.size(),
                                       list.signature_size));
  }
  for (; !bytes.empty(); bytes = bytes.subspan(list.signature_size)) {
    const ByteSpan data = bytes.first(list.signature_size).subspan(Guid::kSize);
    list.signatures.push_back({Guid::load(bytes.data()), Bytes(data.begin(), data.end())});
  }
  return list;
}

// What makes two signatures the same.
std::string key(const SignatureList& list, const Signature& signature) {
  std::string text(as_text(list.type.bytes));
  text += as_text(signature.owner.bytes);
  text += as_text(signature.data);
  return text;
}

// Entries of dbx that are no digests but the lowest security version number of a Windows loader:
// version 1, the loader's GUID, u16 minor, u16 major, zeros. Of type SHA-256, so that firmware
// takes them; it is Windows' boot manager that reads them
// (github.com/microsoft/secureboot_objects, dbx_info_msft_latest.json, "svns").
constexpr Guid kVersionsOwner = Guid::of("9d132b6c-59d5-4388-ab1c-185cfcb2eb92");
struct VersionedLoader {
  Guid guid;
  std::string_view name;
};
constexpr std::array<VersionedLoader, 3> kVersionedLoaders = {{
    {Guid::of("9d132b61-59d5-4388-ab1c-185c3cb2eb92"), "bootmgfw.efi"},
    {Guid::of("e8f82e9d-e127-4158-a488-4c18abe2f284"), "cdboot.efi"},
    {Guid::of("c999cac2-7ffe-496f-8127-9e2a8a535976"), "wdsmgfw.efi"},
}};

// Nothing: a digest.
std::optional<std::string> security_version(const SignatureList& list, const Signature& signature) {
  const Bytes& data = signature.data;
  if (list.type != guids::kSha256 || data.size() != 32 || data[0] != std::byte{1}) {
    return std::nullopt;
  }
  const Guid guid = Guid::load(&data[1]);
  const auto* loader = std::ranges::find(kVersionedLoaders, guid, &VersionedLoader::guid);
  const bool known = loader != kVersionedLoaders.end();
  const bool zeros =
      std::all_of(data.begin() + 21, data.end(), [](std::byte b) { return b == std::byte{0}; });
  if (!zeros || (!known && signature.owner != kVersionsOwner)) return std::nullopt;
  return fmt::format("{} below security version {}.{}",
                     known ? std::string(loader->name) : "the Windows loader " + guid.text(),
                     load_le<uint16_t>(&data[19]), load_le<uint16_t>(&data[17]));
}

std::string words_of_digest(ByteSpan digest) {
  const Digest nothing = crypto::sha256(ByteSpan());
  return std::ranges::equal(digest, nothing.bytes) ? "the digest of nothing: a placeholder" : "";
}

std::string date(const std::string& time) { return time.substr(0, 10); }

}  // namespace

Result<SignatureDatabase> SignatureDatabase::parse(ByteSpan bytes) {
  if (bytes.size() > kDatabaseBytesMax) {
    return Error{.code = ErrorCode::kLimit,
                 .cause = fmt::format("a signature database of {} bytes; the limit is {}",
                                      bytes.size(), kDatabaseBytesMax)};
  }
  SignatureDatabase database;
  size_t signatures = 0;
  while (!bytes.empty()) {
    size_t list_size = 0;
    SignatureList list = TRY(parse_list(bytes, database.lists_.size(), list_size));
    signatures += list.signatures.size() + 1;  // an empty list costs too
    if (signatures > kSignaturesMax) {
      return Error{.code = ErrorCode::kLimit,
                   .cause = fmt::format("more than {} signatures", kSignaturesMax)};
    }
    database.lists_.push_back(std::move(list));
    bytes = bytes.subspan(list_size);
  }
  return database;
}

SignatureDatabase SignatureDatabase::of_certificate(const Guid& owner, ByteSpan der) {
  SignatureDatabase database;
  database.lists_.push_back({.type = guids::kX509,
                             .signature_size = static_cast<uint32_t>(Guid::kSize + der.size()),
                             .signatures = {{owner, Bytes(der.begin(), der.end())}}});
  return database;
}

SignatureDatabase SignatureDatabase::of_sha256(const Guid& owner,
                                               const std::vector<Digest>& digests) {
  SignatureDatabase database;
  if (digests.empty()) return database;
  SignatureList list{.type = guids::kSha256, .signature_size = Guid::kSize + 32};
  for (const Digest& digest : digests) {
    list.signatures.push_back({owner, Bytes(digest.bytes.begin(), digest.bytes.end())});
  }
  database.lists_.push_back(std::move(list));
  return database;
}

Bytes SignatureDatabase::to_bytes() const {
  Bytes out;
  for (const SignatureList& list : lists_) {
    const size_t at = out.size();
    out.resize(at + kSignatureListHeaderSize);
    list.type.store(&out[at]);
    store_le<uint32_t>(&out[at + kHeaderSizeAt], static_cast<uint32_t>(list.header.size()));
    store_le<uint32_t>(&out[at + kSignatureSizeAt], list.signature_size);
    out.insert(out.end(), list.header.begin(), list.header.end());
    for (const Signature& signature : list.signatures) {
      HF_ASSERT(signature.data.size() + Guid::kSize == list.signature_size);
      out.insert(out.end(), signature.owner.bytes.begin(), signature.owner.bytes.end());
      out.insert(out.end(), signature.data.begin(), signature.data.end());
    }
    store_le<uint32_t>(&out[at + kListSizeAt], static_cast<uint32_t>(out.size() - at));
  }
  return out;
}

size_t SignatureDatabase::size() const {
  return std::accumulate(lists_.begin(), lists_.end(), size_t{0},
                         [](size_t sum, const auto& list) { return sum + list.signatures.size(); });
}

bool SignatureDatabase::contains(const Guid& type, ByteSpan data) const {
  return std::ranges::any_of(lists_, [&](const SignatureList& list) {
    return list.type == type && std::ranges::any_of(list.signatures, [&](const Signature& mine) {
             return std::ranges::equal(mine.data, data);
           });
  });
}

std::vector<ByteSpan> SignatureDatabase::certificates() const {
  std::vector<ByteSpan> out;
  for (const SignatureList& list : lists_) {
    if (list.type != guids::kX509) continue;
    for (const Signature& signature : list.signatures) out.emplace_back(signature.data);
  }
  return out;
}

size_t SignatureDatabase::append(const SignatureDatabase& more) {
  std::unordered_set<std::string> present;
  for (const SignatureList& list : lists_) {
    for (const Signature& signature : list.signatures) present.insert(key(list, signature));
  }
  size_t came = 0;
  for (const SignatureList& list : more.lists_) {
    SignatureList kept{
        .type = list.type, .header = list.header, .signature_size = list.signature_size};
    for (const Signature& signature : list.signatures) {
      if (present.insert(key(list, signature)).second) kept.signatures.push_back(signature);
    }
    came += kept.signatures.size();
    if (!kept.signatures.empty()) lists_.push_back(std::move(kept));
  }
  return came;
}

size_t SignatureDatabase::remove(const SignatureDatabase& which) {
  std::unordered_set<std::string> unwanted;
  const auto of_anyone = [](const SignatureList& list, const Signature& signature) {
    return key(list, {Guid{}, signature.data});
  };
  for (const SignatureList& list : which.lists_) {
    for (const Signature& signature : list.signatures) {
      unwanted.insert(of_anyone(list, signature));
    }
  }
  size_t gone = 0;
  for (SignatureList& list : lists_) {
    gone += std::erase_if(list.signatures, [&](const Signature& signature) {
      return unwanted.contains(of_anyone(list, signature));
    });
  }
  if (gone != 0) std::erase_if(lists_, [](const auto& list) { return list.signatures.empty(); });
  return gone;
}

Status check_firmware_takes(const SignatureDatabase& database, bool platform_key) {
  const auto refused = [](size_t list, const std::string& why) {
    return Error{.code = ErrorCode::kInvalidArgument,
                 .cause = fmt::format("signature list {}: {}", list, why),
                 .effect = "The firmware would refuse it"};
  };
  size_t number = 0;
  for (const SignatureList& list : database.lists()) {
    const auto* known = std::ranges::find(kKnown, list.type, &KnownType::type);
    if (known == kKnown.end()) return refused(number, "of unknown type " + list.type.text());
    if (!list.header.empty()) return refused(number, "it has a header");
    if (known->data_size != 0 && list.signature_size != Guid::kSize + known->data_size) {
      return refused(number, fmt::format("signatures of {} bytes; {} has {}", list.signature_size,
                                         name_of(list.type), Guid::kSize + known->data_size));
    }
    for (const Signature& signature : list.signatures) {
      if (list.type != guids::kX509) break;
      auto facts = read_certificate(signature.data);
      if (!facts.ok()) return refused(number, facts.error().cause);
      if (!facts->rsa) {
        return refused(number, "\"" + words(*facts) + "\" has a key of kind " + facts->key +
                                   "; firmware takes RSA");
      }
    }
    ++number;
  }
  if (platform_key && database.size() > 1) {
    return Error{.code = ErrorCode::kInvalidArgument,
                 .cause = fmt::format("{} platform keys; there can be one", database.size()),
                 .effect = "The firmware would refuse it"};
  }
  return {};
}

SignatureWords describe(const SignatureList& list, const Signature& signature) {
  SignatureWords out{.type = words(list.type),
                     .owner = words(signature.owner),
                     .owner_guid = signature.owner.text()};
  if (auto version = security_version(list, signature)) {
    out.type = kSecurityVersionType;
    out.title = std::move(*version);
    out.detail = "no image's digest: Windows' boot manager reads it";
    out.fingerprint = to_hex(signature.data);
    return out;
  }
  if (is_digest(list.type)) {
    out.title = out.fingerprint = to_hex(signature.data);
    out.detail = words_of_digest(signature.data);
    return out;
  }
  out.fingerprint = crypto::sha256(signature.data).hex();
  if (list.type == guids::kX509) {
    if (auto facts = read_certificate(signature.data); facts.ok()) {
      out.title = words(*facts);
      out.detail = facts->self_signed ? "self-signed" : "issued by " + issuer_words(*facts);
      out.detail += fmt::format(", {}, {} to {}", facts->key, date(facts->not_before),
                                date(facts->not_after));
    } else {
      out.title = "(a certificate that cannot be read)";
    }
    return out;
  }
  out.title = to_hex(ByteSpan(signature.data).first(std::min<size_t>(signature.data.size(), 64)));
  const bool timed = list.type == guids::kX509Sha256 || list.type == guids::kX509Sha384 ||
                     list.type == guids::kX509Sha512;
  if (timed && signature.data.size() > EfiTime::kSize) {
    const ByteSpan data(signature.data);
    out.title = to_hex(data.first(data.size() - EfiTime::kSize));
    const EfiTime since = EfiTime::load(data.last(EfiTime::kSize).data());
    out.detail = "a certificate, revoked " + (since.is_zero() ? "always" : "since " + since.text());
  }
  return out;
}

}  // namespace hf::secure_boot
