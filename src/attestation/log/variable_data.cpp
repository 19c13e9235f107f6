#include "attestation/log/variable_data.h"

#include <algorithm>

namespace hf::attestation {
namespace {

constexpr size_t kHeaderSize = 32;

}  // namespace

std::optional<VariableData> read_variable_data(ByteSpan bytes) {
  if (bytes.size() < kHeaderSize) return std::nullopt;
  auto characters = load_le<uint64_t>(bytes.data() + 16);
  auto content_size = load_le<uint64_t>(bytes.data() + 24);
  if (characters == 0 || characters > kVariableNameMax) return std::nullopt;
  size_t content_at = kHeaderSize + 2 * static_cast<size_t>(characters);
  if (content_at > bytes.size() || content_size != bytes.size() - content_at) return std::nullopt;
  VariableData variable;
  variable.vendor = secure_boot::Guid::load(bytes.data());
  variable.name.reserve(static_cast<size_t>(characters));
  for (size_t i = 0; i < characters; ++i) {
    auto unit = load_le<uint16_t>(bytes.data() + kHeaderSize + 2 * i);
    if (unit < 0x20 || unit > 0x7e) return std::nullopt;
    variable.name.push_back(static_cast<char>(unit));
  }
  variable.content = bytes.subspan(content_at);
  return variable;
}

Bytes variable_data(const secure_boot::Guid& vendor, std::string_view name, ByteSpan content) {
  HF_ASSERT(!name.empty() && name.size() <= kVariableNameMax);
  size_t content_at = kHeaderSize + 2 * name.size();
  Bytes bytes(content_at + content.size());
  vendor.store(bytes.data());
  store_le<uint64_t>(bytes.data() + 16, name.size());
  store_le<uint64_t>(bytes.data() + 24, content.size());
  for (size_t i = 0; i < name.size(); ++i) {
    store_le<uint16_t>(bytes.data() + kHeaderSize + 2 * i, static_cast<uint8_t>(name[i]));
  }
  std::ranges::copy(content, bytes.begin() + static_cast<ptrdiff_t>(content_at));
  return bytes;
}

}  // namespace hf::attestation
