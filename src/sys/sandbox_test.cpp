#include "sys/sandbox.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <seccomp.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <thread>

#include "base/sanitizer.h"

namespace hf::sys {
namespace {

// The exit status of `work` in a child: what is given up is given up for good.
template <typename Work>
int in_child(Work work) {
  pid_t child = ::fork();
  HF_ASSERT(child >= 0);
  if (child == 0) ::_exit(work());
  int status = 0;
  HF_ASSERT(::waitpid(child, &status, 0) == child);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

TEST(Sandbox, opens_no_file_outside_its_directories) {
  std::string own = "/tmp/hf-sandbox-XXXXXX";
  ASSERT_NE(::mkdtemp(own.data()), nullptr);
  EXPECT_EQ(in_child([&] {
              const std::string directories[] = {own};
              int before = ::open("/etc/hostname", O_RDONLY | O_CLOEXEC);
              if (!confine_files(directories).ok()) return 1;
              if (::open((own + "/mine").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600) < 0) return 2;
              if (::open("/etc/passwd", O_RDONLY | O_CLOEXEC) >= 0) return errno == EACCES ? 0 : 3;
              char byte;
              if (before >= 0 && ::read(before, &byte, 1) < 0) return 4;
              return 0;
            }),
            0);
  std::filesystem::remove_all(own);
}

TEST(Sandbox, refuses_or_kills_at_a_call_that_is_not_listed_in_every_thread) {
  if (under_sanitizer()) GTEST_SKIP() << "the filter is off under a sanitizer";
  constexpr int kCalls[] = {SCMP_SYS(exit_group), SCMP_SYS(exit),  SCMP_SYS(futex),
                            SCMP_SYS(socket),     SCMP_SYS(close), SCMP_SYS(munmap),
                            SCMP_SYS(madvise),    SCMP_SYS(write), SCMP_SYS(rt_sigprocmask)};
  EXPECT_EQ(in_child([&] {
              std::atomic<int> ready = 0;
              std::atomic<int> go = 0;
              std::atomic<int> answer = 0;
              std::thread other([&] {
                ready = 1;
                ready.notify_all();
                go.wait(0);
                answer = ::syscall(SYS_getppid) == -1 && errno == EPERM ? 1 : 2;
              });
              ready.wait(0);
              if (!allow_system_calls(kCalls, OnOtherCall::kRefuse).ok()) return 1;
              if (::socket(AF_UNIX, SOCK_STREAM, 0) < 0) return 2;
              if (::socket(AF_INET, SOCK_STREAM, 0) >= 0 || errno != EPERM) return 3;
              go = 1;
              go.notify_all();
              other.join();
              return answer == 1 ? 0 : 4;
            }),
            0);
  EXPECT_EQ(in_child([&] {
              if (!allow_system_calls(kCalls, OnOtherCall::kKill).ok()) return 1;
              (void)::getppid();
              return 0;
            }),
            128 + SIGSYS);
}

}  // namespace
}  // namespace hf::sys
