// The event logs of tests/corpus/event_logs with the PCR values that each boot's TPM had, for tests
// only.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <string>
#include <vector>

#include "attestation/log/event_log.h"
#include "attestation/log/pcr.h"
#include "base/assert.h"
#include "sys/json.h"

namespace hf::attestation::corpus {

struct Boot {
  std::string name;
  bool secure_boot = false;
  Bytes log;
  std::map<HashAlg, std::map<uint32_t, Bytes>> pcrs;
};

// Programs are run from the source tree's root, or ctest says where that is.
inline std::filesystem::path directory() {
  const char* source = std::getenv("HOLDFAST_SOURCE");
  return std::filesystem::path(source == nullptr ? "." : source) / "tests/corpus/event_logs";
}

inline std::string text_of(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

inline Boot boot(const std::string& name) {
  Boot found{.name = name};
  const std::string log = text_of(directory() / (name + ".bin"));
  const ByteSpan bytes = as_bytes(log);
  found.log.assign(bytes.begin(), bytes.end());
  const auto json = sys::parse_json_object(text_of(directory() / (name + ".json")));
  HF_ASSERT(json.ok());
  found.secure_boot = json->at("secure_boot").as_bool();
  for (const auto& [bank, values] : json->at("pcrs").as_object()) {
    const auto alg = parse_hash_alg(bank);
    HF_ASSERT(alg.has_value());
    for (const auto& [pcr, value] : values.as_object()) {
      auto digest = from_hex(value.as_string());
      HF_ASSERT(digest.ok());
      found.pcrs[*alg][static_cast<uint32_t>(std::stoul(pcr))] = std::move(digest).value();
    }
  }
  return found;
}

// Our own boots of the probe guest, through many boot chains.
inline std::vector<Boot> own_boots() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(directory())) {
    const std::string name = entry.path().stem();
    if (entry.path().extension() == ".bin" && name.starts_with("holdfast-")) names.push_back(name);
  }
  std::ranges::sort(names);
  std::vector<Boot> boots;
  for (const std::string& name : names) boots.push_back(boot(name));
  return boots;
}

}  // namespace hf::attestation::corpus
