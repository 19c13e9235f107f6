// A site's vault: the product's own titles (vault/core/titles.h), and around them what a vault
// knows of one VM's processes.
#pragma once

#include <memory>
#include <optional>

#include "sim/lifecycle/faults.h"
#include "sim/lifecycle/files.h"
#include "sim/world/rng.h"
#include "vault/core/titles.h"

namespace hf::sim::life {

class SiteVault {
 public:
  SiteVault(const SiteId& self, const title::Signer& signer, const title::Verifier& verifier,
            const crypto::Secret& kek, Scheduler& scheduler, SimRng rng, Fault fault);

  bool up() const { return titles_ != nullptr; }
  void start();
  void die();
  Files& files() { return files_; }
  void set_vm(const VmId& vm) { vm_ = vm; }

  // Of the vault that is up (asserted).
  Result<VmId> create() { return titles_->create(0); }
  std::optional<vault::TitleView> view();
  std::vector<Digest> known();
  Bytes lacking(const std::vector<Digest>& known);
  Result<vault::TitleLearned> learn(const SiteId& from, ByteSpan bundle, bool begin);
  std::optional<title::Question> ask(const SiteId& to);
  std::optional<Bytes> answer(const title::Question& question, bool replica);
  bool take_answer(ByteSpan answer);
  title::Judged<vault::TitleView> propose(title::Kind kind, const SiteId& subject,
                                          const title::Token& word);
  title::Token give_word(title::Act act);
  Status release(bool keeper_there);
  void revoke() { released_ = false; }
  bool released() const { return released_; }
  bool fetch_key();  // by the VM's keeper: it was released
  bool open_gate();
  std::string_view gate_says() const { return gate_says_; }
  void show_line(const title::Line& end, const std::optional<title::Line>& holds);
  void put_freshness(const title::Line& line);
  std::optional<title::Line> freshness();
  void forget_vm();

  // The launcher's word.
  void guest_is(bool on);
  void keeper_there();  // as the vault begins: it may have had the key
  void keeper_gone();

 private:
  const SiteId self_;
  const title::Signer& signer_;
  const title::Verifier& verifier_;
  const crypto::Secret& kek_;
  SimClock clock_;
  SimRng rng_;
  const Fault fault_;
  Files files_;
  VmId vm_;
  std::unique_ptr<vault::Titles> titles_;
  bool released_ = false;
  bool handed_out_ = false;
  bool guest_ = false;
  std::string_view gate_says_;
};

}  // namespace hf::sim::life
