#include "keeper/ship/session_vault.h"

#include <utility>

namespace hf::keeper {

SessionVault::SessionVault(sys::Reactor& reactor, VmId vm, std::string vault_socket)
    : reactor_(reactor), vm_(vm), vault_socket_(std::move(vault_socket)) {}

SessionVault::~SessionVault() { HF_ASSERT(idle() && !thread_.joinable()); }

void SessionVault::sign(const replication::SignStatement& question, Signed done) {
  ask([vm = vm_, question, done = std::move(done)](vault::KeyClient& vault) mutable {
    auto signature = vault.session_sign(vm, question.statement);
    return std::move_only_function<void()>(
        [done = std::move(done), signature = std::move(signature)] mutable {
          done(std::move(signature));
        });
  });
}

void SessionVault::check(const replication::CheckStatement& question, Checked done) {
  ask([vm = vm_, question, done = std::move(done)](vault::KeyClient& vault) mutable {
    Status good = vault.session_check(vm, question.peer, question.statement, question.signature);
    return std::move_only_function<void()>(
        [done = std::move(done), good = std::move(good)] mutable { done(std::move(good)); });
  });
}

void SessionVault::show(vault::ShownLine line, Checked done) {
  HF_ASSERT(!busy());
  ask([vm = vm_, line = std::move(line), done = std::move(done)](vault::KeyClient& vault) mutable {
    Status shown = vault.show_line(vm, line);
    return std::move_only_function<void()>(
        [done = std::move(done), shown = std::move(shown)] mutable { done(std::move(shown)); });
  });
}

void SessionVault::ask(Question question) {
  if (asking_) {
    waiting_ = std::move(question);
  } else {
    begin(std::move(question));
  }
}

void SessionVault::begin(Question question) {
  HF_ASSERT(!asking_);
  asking_ = true;
  thread_ = std::thread([this, question = std::move(question)] mutable {
    vault::KeyClient vault({.socket_path = vault_socket_});
    reactor_.post([this, answer = question(vault)] mutable {
      end();
      answer();
    });
  });
}

void SessionVault::end() {
  thread_.join();
  asking_ = false;
  if (waiting_) begin(*std::exchange(waiting_, std::nullopt));
}

}  // namespace hf::keeper
