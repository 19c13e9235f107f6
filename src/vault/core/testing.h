// For the tests of hf_vault and hf_vault_server: directories that go away, a clock that stands
// still, vaults made once and copied, and a digest over a directory that shows any change.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "crypto/crypto.h"
#include "vault/core/vault.h"

namespace hf::vault::testing {

namespace fs = std::filesystem;

class TempDir {
 public:
  TempDir() {
    std::string pattern = (fs::temp_directory_path() / "hf-vault-XXXXXX").string();
    HF_ASSERT(::mkdtemp(pattern.data()) != nullptr);
    path_ = pattern;
  }
  ~TempDir() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;
  std::string sub(const std::string& name) const { return (path_ / name).string(); }

 private:
  fs::path path_;
};

class TestClock final : public Clock {
 public:
  Micros wall_time() override { return wall; }
  Micros monotonic() override { return mono; }
  Micros wall{1'760'000'000'000'000};
  Micros mono{1'000'000};
};

inline Bytes read_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  const std::string text((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
  const ByteSpan bytes = as_bytes(text);
  return {bytes.begin(), bytes.end()};
}

inline void write_file(const std::string& path, ByteSpan bytes) {
  std::ofstream out(path, std::ios::binary | std::ios::trunc);
  out.write(reinterpret_cast<const char*>(bytes.data()),
            static_cast<std::streamsize>(bytes.size()));
  out.close();
  ::chmod(path.c_str(), 0600);
}

// Names, modes, owners and contents.
inline Digest digest_of(const std::string& directory) {
  crypto::Sha256 hash;
  std::map<std::string, fs::path> files;
  for (const auto& entry : fs::directory_iterator(directory)) {
    files[entry.path().filename().string()] = entry.path();
  }
  files[""] = directory;
  for (const auto& [name, path] : files) {
    struct stat status{};
    HF_ASSERT(::lstat(path.c_str(), &status) == 0);
    const std::string facts =
        name + " " + std::to_string(status.st_mode) + " " + std::to_string(status.st_uid) + "\n";
    hash.update(as_bytes(facts));
    if (S_ISREG(status.st_mode)) hash.update(crypto::sha256(read_file(path.string())).span());
  }
  return hash.finish();
}

// A VM's id is what its vault makes of its title: the newest that make() has made under this
// number. One that was never made has an id of its own.
inline std::map<uint8_t, VmId>& made_vms() {
  static std::map<uint8_t, VmId> made;
  return made;
}
inline VmId vm_of(uint8_t number) {
  if (const auto made = made_vms().find(number); made != made_vms().end()) return made->second;
  VmId vm;
  vm.bytes.fill(std::byte{number});
  return vm;
}

constexpr Caller kDaemon{.uid = 500, .pid = 50};
constexpr uint32_t kKeeperUid = 600;
constexpr UidRange kKeeperUids{.first = kKeeperUid, .last = kKeeperUid + 99};
// The keepers of vm_of(1) and vm_of(2), as a TestVault's launcher has bound them.
constexpr Caller kKeeper{.uid = kKeeperUid, .pid = 60};
constexpr Caller kKeeper2{.uid = kKeeperUid + 2, .pid = 62};
constexpr Caller kLauncher{.uid = 0, .pid = 1};
constexpr Caller kOperator{.uid = 0, .pid = 70};

// Site `name`'s freshly made vault in `directory`; made once a process (RSA keys take long).
inline void copy_new_vault(const std::string& name, const std::string& directory) {
  static TempDir home;
  static TestClock clock;
  static crypto::SystemRng rng;
  const std::string original = home.sub(name);
  if (!fs::exists(original)) {
    HF_ASSERT(Vault::init({.directory = original, .secret = {}}, name, clock, rng).ok());
  }
  HF_ASSERT(::mkdir(directory.c_str(), 0700) == 0);
  for (const auto& entry : fs::directory_iterator(original)) {
    write_file(directory + "/" + entry.path().filename().string(),
               read_file(entry.path().string()));
  }
}

inline KeeperBindings both_keepers(uint64_t generation = 1) {
  return {.generation = generation,
          .keepers = {{.vm = vm_of(1), .uid = kKeeper.uid}, {.vm = vm_of(2), .uid = kKeeper2.uid}}};
}

// A vault of its own for each test, which knows the keepers of two VMs. Without `keepers` it is of
// a site with one user, and knows none.
struct TestVault {
  explicit TestVault(const std::string& name, std::optional<UidRange> reserved = kKeeperUids)
      : directory(temp.sub(name)), keepers(reserved) {
    copy_new_vault(name, directory);
    reopen();
    all().push_back(this);
  }
  ~TestVault() { std::erase(all(), this); }
  TestVault(const TestVault&) = delete;
  TestVault& operator=(const TestVault&) = delete;

  // A VM of this site under `number`; every site's launcher knows its keeper.
  KeyInfo make(uint8_t number) {
    const Result<KeyInfo> made = vault->create_vm(kDaemon);
    HF_ASSERT(made.ok());
    made_vms()[number] = made->vm;
    for (TestVault* site : all()) site->bind();
    return *made;
  }
  void bind(bool with_keepers = true) {
    if (!keepers) return;
    KeeperBindings bindings = both_keepers(++generation);
    if (!with_keepers) bindings.keepers.clear();
    HF_ASSERT(vault->bind_keepers(bindings, kLauncher).ok());
  }
  // Statements that this site lacks, and its answer to a question of the other.
  void learn_from(TestVault& other, VmId vm) {
    const Result<std::vector<Digest>> known = vault->title_known(vm);
    HF_ASSERT(known.ok());
    const Result<Bytes> lacking = other->title_lacking(vm, *known);
    HF_ASSERT(lacking.ok());
    const SiteId from = other->identity().site;
    HF_ASSERT(vault->title_learn(vm, from, *lacking, true, kDaemon).ok());
  }
  void ask(TestVault& other, VmId vm, OwnWord word = {.accepts = true, .prepared = true}) {
    const auto question = vault->title_ask(vm, other->identity().site);
    HF_ASSERT(question.ok());
    const auto answer = other->title_answer(*question, word);
    HF_ASSERT(answer.ok());
    const auto taken = vault->title_take_answer(vm, *answer);
    HF_ASSERT(taken.ok() && taken->has_value());
  }
  TitleSigned propose(VmId vm, title::Kind kind, SiteId subject = {}, title::Token token = {}) {
    const auto view = vault->title(vm);
    HF_ASSERT(view.ok());
    const auto outcome = vault->title_propose(
        {.vm = vm, .about = view->head->digest(), .kind = kind, .subject = subject, .token = token},
        kDaemon);
    HF_ASSERT(outcome.ok());
    return *outcome;
  }

  void reopen() {
    vault.reset();
    Result<std::unique_ptr<Vault>> opened =
        Vault::open({.directory = directory, .secret = {}, .keepers = keepers}, clock, rng);
    HF_ASSERT(opened.ok());
    vault = std::move(opened).value();
    generation = 0;
    bind();
  }
  Vault* operator->() { return vault.get(); }

  TempDir temp;
  TestClock clock;
  crypto::SystemRng rng;
  std::string directory;
  std::optional<UidRange> keepers;
  std::unique_ptr<Vault> vault;
  uint64_t generation = 0;

 private:
  static std::vector<TestVault*>& all() {
    static std::vector<TestVault*> sites;
    return sites;
  }
};

}  // namespace hf::vault::testing
