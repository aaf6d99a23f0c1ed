"""Language-conditioned tasks on a table top: worlds, scripted experts and rewards, without ROS.

    task = make_task('put-block-in-bowl', 'seen')
    with Tabletop(task, seed=10001) as table:
        table.reset()
        while not table.is_done:
            views = table.observe()
            pick, place, instruction = table.oracle()
            reward, done, info = table.step(pick, place)

The tasks, their colours, sentences and rewards are those of CLIPort (Shridhar et al. 2021,
arXiv 2109.12098); bodies, contacts and pictures are MuJoCo's, so that figures compare only with
others of this simulator.
"""

from vlm_nodes.simulation.tabletop.registry import make_task, task_names
from vlm_nodes.simulation.tabletop.tabletop import StepInfo, Tabletop
from vlm_nodes.simulation.tabletop.task import Task
from vlm_nodes.simulation.tabletop.task_sets import TaskSet, task_set, task_set_names

__all__ = [
    'StepInfo',
    'Tabletop',
    'Task',
    'TaskSet',
    'make_task',
    'task_names',
    'task_set',
    'task_set_names',
]
