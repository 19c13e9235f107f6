// EFI GUIDs, in the byte order of memory and flash: the first three fields are little-endian
// (UEFI Specification 2.10, Appendix A).
#pragma once

#include <array>
#include <compare>
#include <string>
#include <string_view>

#include "base/bytes.h"
#include "base/result.h"

namespace hf::secure_boot {

struct Guid {
  static constexpr size_t kSize = 16;
  std::array<std::byte, kSize> bytes{};

  auto operator<=>(const Guid&) const = default;
  static Guid load(const std::byte* from);
  void store(std::byte* to) const;
  // "8be4df61-93ca-11d2-aa0d-00e098032b8c", either case. kInvalidArgument.
  static Result<Guid> parse(std::string_view text);
  std::string text() const;  // lower case

  // From a literal that is known to be right.
  static consteval Guid of(const char (&text)[37]) {
    constexpr std::array<size_t, kSize> order = {3, 2, 1,  0,  5,  4,  7,  6,
                                                 8, 9, 10, 11, 12, 13, 14, 15};
    Guid guid;
    size_t at = 0;
    for (size_t i = 0; i < kSize; ++i) {
      if (text[at] == '-') ++at;
      guid.bytes[order[i]] = static_cast<std::byte>(nibble(text[at]) << 4 | nibble(text[at + 1]));
      at += 2;
    }
    return guid;
  }

 private:
  static consteval unsigned nibble(char digit) {
    if (digit >= '0' && digit <= '9') return static_cast<unsigned>(digit - '0');
    if (digit >= 'a' && digit <= 'f') return static_cast<unsigned>(digit - 'a') + 10;
    throw "not a lower case hexadecimal digit";
  }
};

namespace guids {
// Variables.
inline constexpr Guid kGlobalVariable = Guid::of("8be4df61-93ca-11d2-aa0d-00e098032b8c");
inline constexpr Guid kImageSecurity = Guid::of("d719b2cb-3d3a-4596-a3bc-dad00e67656f");
inline constexpr Guid kSecureBootEnable = Guid::of("f0a30bc7-af08-4556-99c4-001009c93a44");
inline constexpr Guid kCustomMode = Guid::of("c076ec0c-7028-4399-a072-71ee5c448b9f");
inline constexpr Guid kVendorKeysNv = Guid::of("9073e4e0-60ec-4b6e-9903-4c223c260f3c");
inline constexpr Guid kCertDb = Guid::of("d9bee56e-75dc-49d9-b4d7-b534210f637a");
inline constexpr Guid kShimLock = Guid::of("605dab50-e046-4300-abb6-3dd810dd8b23");
// Types of signatures (UEFI 2.10, 32.4.1; table "Image Signature Types").
inline constexpr Guid kX509 = Guid::of("a5c059a1-94e4-4aa7-87b5-ab155c2bf072");
inline constexpr Guid kSha1 = Guid::of("826ca512-cf10-4ac9-b187-be01496631bd");
inline constexpr Guid kSha224 = Guid::of("0b6e5233-a65c-44c9-9407-d9ab83bfc8bd");
inline constexpr Guid kSha256 = Guid::of("c1c41626-504c-4092-aca9-41f936934328");
inline constexpr Guid kSha384 = Guid::of("ff3e5307-9fd0-48c9-85f1-8ad56c701e01");
inline constexpr Guid kSha512 = Guid::of("093e0fae-a6c4-4f50-9f1b-d41e2b89c19a");
inline constexpr Guid kRsa2048 = Guid::of("3c5766e8-269c-4e34-aa14-ed776e85b3b6");
inline constexpr Guid kRsa2048Sha1 = Guid::of("67f8444f-8743-48f1-a328-1eaab8736080");
inline constexpr Guid kRsa2048Sha256 = Guid::of("e2b36190-879b-4a3d-ad8d-f2e7bba32784");
inline constexpr Guid kX509Sha256 = Guid::of("3bd2a492-96c0-4079-b420-fcf98ef103ed");
inline constexpr Guid kX509Sha384 = Guid::of("7076876e-80c2-4ee6-aad2-28b349a6865b");
inline constexpr Guid kX509Sha512 = Guid::of("446dbf63-2502-4cda-bcfa-2465d2b0fe9d");
inline constexpr Guid kPkcs7 = Guid::of("4aafd29d-68df-49ee-8aa9-347d375665a7");
// Owners of signatures.
inline constexpr Guid kMicrosoft = Guid::of("77fa9abd-0359-4d32-bd60-28f4e78f784b");
inline constexpr Guid kHoldfast = Guid::of("5b1f9a6e-3c0d-4b7e-9d55-8a1c70f0e4d2");
// Of digests that a profile put there: the next profile takes them out again.
inline constexpr Guid kHoldfastProfile = Guid::of("c20e5d77-91b4-4f0a-8a3e-6f6b2d9c1e58");
}  // namespace guids

// "X509", "SHA256", "Microsoft", "EFI global variable", …; empty if we have no name for it.
std::string_view name_of(const Guid& guid);
// The name if there is one, else the GUID's text.
std::string words(const Guid& guid);

}  // namespace hf::secure_boot
