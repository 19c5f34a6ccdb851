"""A game of one's own, as somebody might write it: ``worldenv make catch:Catch-v0`` imports this file."""

import gymnasium as gym
import numpy as np


class Catch(gym.Env):
    """Something falls; be below it. What was caught is paid, what was missed ends the game."""

    observation_space = gym.spaces.Box(0, 255, (48, 48, 3), np.uint8)  # a picture: what a world learns to show
    action_space = gym.spaces.Dict({"move": gym.spaces.Discrete(3), "run": gym.spaces.Discrete(2)})

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.x, self.drop = 20, [int(self.np_random.integers(0, 42)), 0]
        return self.picture(), {}

    def step(self, action):
        self.x = int(np.clip(self.x + (action["move"] - 1) * (3 + 3 * action["run"]), 0, 40))
        self.drop[1] += 3
        landed = self.drop[1] >= 39
        caught = landed and self.x - 6 <= self.drop[0] <= self.x + 8
        if caught:
            self.drop = [int(self.np_random.integers(0, 42)), 0]
        return self.picture(), float(caught), landed and not caught, False, {}

    def picture(self):
        frame = np.full((48, 48, 3), 20, np.uint8)
        frame[self.drop[1] : self.drop[1] + 6, self.drop[0] : self.drop[0] + 6] = (250, 200, 40)
        frame[45:, self.x : self.x + 8] = (60, 160, 250)
        return frame


gym.register("Catch-v0", Catch, max_episode_steps=200)
