#include "secure_boot/efi/guid.h"

#include <algorithm>
#include <utility>

namespace hf::secure_boot {
namespace {

// Byte in memory of each pair of digits of the text.
constexpr std::array<size_t, Guid::kSize> kOrder = {3, 2, 1,  0,  5,  4,  7,  6,
                                                    8, 9, 10, 11, 12, 13, 14, 15};
constexpr std::array<size_t, 4> kDashes = {8, 13, 18, 23};

constexpr std::array<std::pair<Guid, std::string_view>, 21> kNames = {{
    {guids::kGlobalVariable, "EFI global variable"},
    {guids::kImageSecurity, "EFI image security database"},
    {guids::kSecureBootEnable, "SecureBootEnable"},
    {guids::kCustomMode, "CustomMode"},
    {guids::kCertDb, "certdb"},
    {guids::kShimLock, "shim"},
    {guids::kX509, "X509"},
    {guids::kSha1, "SHA1"},
    {guids::kSha224, "SHA224"},
    {guids::kSha256, "SHA256"},
    {guids::kSha384, "SHA384"},
    {guids::kSha512, "SHA512"},
    {guids::kRsa2048, "RSA2048"},
    {guids::kRsa2048Sha1, "RSA2048_SHA1"},
    {guids::kRsa2048Sha256, "RSA2048_SHA256"},
    {guids::kX509Sha256, "X509_SHA256"},
    {guids::kX509Sha384, "X509_SHA384"},
    {guids::kX509Sha512, "X509_SHA512"},
    {guids::kMicrosoft, "Microsoft"},
    {guids::kHoldfast, "Holdfast"},
    {guids::kHoldfastProfile, "Holdfast profile"},
}};

}  // namespace

Guid Guid::load(const std::byte* from) {
  Guid guid;
  std::copy_n(from, kSize, guid.bytes.begin());
  return guid;
}

void Guid::store(std::byte* to) const { std::ranges::copy(bytes, to); }

Result<Guid> Guid::parse(std::string_view text) {
  const Error not_one{.code = ErrorCode::kInvalidArgument,
                      .cause = "\"" + std::string(text.substr(0, 64)) + "\" is not a GUID",
                      .mend = "write it as 8be4df61-93ca-11d2-aa0d-00e098032b8c"};
  if (text.size() != 36) return not_one;
  std::string digits;
  for (size_t i = 0; i < text.size(); ++i) {
    const bool dash = std::ranges::find(kDashes, i) != kDashes.end();
    if (dash != (text[i] == '-')) return not_one;
    if (!dash) digits.push_back(text[i]);
  }
  auto raw = from_hex(digits);
  if (!raw.ok() || raw->size() != kSize) return not_one;
  Guid guid;
  for (size_t i = 0; i < kSize; ++i) guid.bytes[kOrder[i]] = (*raw)[i];
  return guid;
}

std::string Guid::text() const {
  std::array<std::byte, kSize> ordered;
  for (size_t i = 0; i < kSize; ++i) ordered[i] = bytes[kOrder[i]];
  std::string digits = to_hex(ordered);
  for (size_t at : kDashes) digits.insert(at, 1, '-');
  return digits;
}

std::string_view name_of(const Guid& guid) {
  const auto* found = std::ranges::find(kNames, guid, &std::pair<Guid, std::string_view>::first);
  return found == kNames.end() ? std::string_view{} : found->second;
}

std::string words(const Guid& guid) {
  std::string_view name = name_of(guid);
  return name.empty() ? guid.text() : std::string(name);
}

}  // namespace hf::secure_boot
