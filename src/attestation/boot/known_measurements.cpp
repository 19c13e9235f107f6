#include "attestation/boot/known_measurements.h"

#include <algorithm>
#include <array>

#include "attestation/log/variable_data.h"
#include "secure_boot/keys/signature_list.h"

namespace hf::attestation {
namespace {

using secure_boot::Guid;

constexpr std::string_view kSeparatorText = "separator";
constexpr std::string_view kErrorSeparatorText = "error separator";

// TCG PC Client Platform Firmware Profile 1.05, 3.3.4 and 10.4.
constexpr std::array<std::string_view, 11> kTexts = {
    "Calling EFI Application from Boot Option",
    "Returning from EFI Application from Boot Option",
    kExitBootServicesAction,
    "Exit Boot Services Returned with Failure",
    "Exit Boot Services Returned with Success",
    "UEFI Debug Mode",
    "DMA Protection Disabled",
    "Booting to UEFI Shell",
    "Entering ROM Based Setup",
    kDrillMarker,
    kBranchMarker,
};
constexpr std::array<std::array<std::byte, 4>, 2> kSeparators = {{
    {std::byte{0}, std::byte{0}, std::byte{0}, std::byte{0}},
    {std::byte{0xff}, std::byte{0xff}, std::byte{0xff}, std::byte{0xff}},
}};
constexpr std::array<std::byte, 4> kErrorSeparator = {std::byte{1}, std::byte{0}, std::byte{0},
                                                      std::byte{0}};

struct KnownText {
  HashValue digest;
  std::string_view text;
};

std::vector<KnownText> known_texts(HashAlg bank) {
  std::vector<KnownText> known;
  for (const auto& separator : kSeparators) {
    known.push_back({.digest = hash(bank, separator), .text = kSeparatorText});
  }
  known.push_back({.digest = hash(bank, as_bytes("WBCL")), .text = kSeparatorText});
  known.push_back({.digest = hash(bank, kErrorSeparator), .text = kErrorSeparatorText});
  for (std::string_view action : kTexts) {
    known.push_back({.digest = hash(bank, as_bytes(action)), .text = action});
  }
  return known;
}

const std::vector<KnownText>& known_texts_of(HashAlg bank) {
  static const std::vector<KnownText> sha1 = known_texts(HashAlg::kSha1);
  static const std::vector<KnownText> sha256 = known_texts(HashAlg::kSha256);
  static const std::vector<KnownText> sha384 = known_texts(HashAlg::kSha384);
  static const std::vector<KnownText> sha512 = known_texts(HashAlg::kSha512);
  switch (bank) {
    case HashAlg::kSha1:
      return sha1;
    case HashAlg::kSha256:
      return sha256;
    case HashAlg::kSha384:
      return sha384;
    case HashAlg::kSha512:
      return sha512;
  }
  return sha256;
}

}  // namespace

std::string_view known_event_text(HashAlg bank, ByteSpan digest) {
  for (const KnownText& known : known_texts_of(bank)) {
    if (equal(known.digest.bytes(), digest)) return known.text;
  }
  return {};
}

bool is_boot_phase(HashAlg bank, ByteSpan digest) {
  return std::ranges::any_of(kBootPhases, [&](std::string_view phase) {
    return equal(hash(bank, as_bytes(phase)).bytes(), digest);
  });
}

bool is_separator_text(std::string_view text) {
  return text == kSeparatorText || text == kErrorSeparatorText;
}

const Guid& vendor_of(std::string_view variable) {
  bool database = variable == "db" || variable == "dbx" || variable == "dbt" || variable == "dbr";
  if (database) return secure_boot::guids::kImageSecurity;
  bool shim = variable.starts_with("Mok") || variable.starts_with("Sbat") || variable == "Shim";
  return shim ? secure_boot::guids::kShimLock : secure_boot::guids::kGlobalVariable;
}

KnownVariables::KnownVariables(const KeyVariables& variables, HashAlg bank) {
  auto add = [&](std::string_view name, ByteSpan content) {
    Bytes data = variable_data(vendor_of(name), name, content);
    HashValue digest = hash(bank, data);
    entries_.push_back(
        {.digest = Bytes(digest.bytes().begin(), digest.bytes().end()), .data = std::move(data)});
  };
  for (std::byte state : {std::byte{0}, std::byte{1}}) add("SecureBoot", ByteSpan(&state, 1));
  for (std::string_view name : {"PK", "KEK", "db", "dbx"}) {
    auto found = variables.find(name);
    add(name, found == variables.end() ? ByteSpan() : ByteSpan(found->second));
  }
  auto db = variables.find("db");
  if (db == variables.end()) return;
  Result<secure_boot::SignatureDatabase> database =
      secure_boot::SignatureDatabase::parse(db->second);
  if (!database.ok()) return;
  for (const secure_boot::SignatureList& list : database->lists()) {
    for (const secure_boot::Signature& signature : list.signatures) {
      Bytes entry(signature.owner.bytes.begin(), signature.owner.bytes.end());
      entry.insert(entry.end(), signature.data.begin(), signature.data.end());
      add("db", entry);
    }
  }
}

const KnownVariables::Entry* KnownVariables::find(ByteSpan digest) const {
  auto found = std::ranges::find_if(
      entries_, [&](const Entry& entry) { return equal(entry.digest, digest); });
  return found == entries_.end() ? nullptr : &*found;
}

}  // namespace hf::attestation
